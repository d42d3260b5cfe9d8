"""The gRPC server of a service: size limits, health, reflection, and the boundary of errors.

The boundary is the only place that turns exceptions into statuses: a ServiceError becomes its row's
code with ErrorInfo, a broken frame contract FAILED_PRECONDITION or INVALID_ARGUMENT, anything else
INTERNAL with its stack in the log and none of it on the wire.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, NoReturn, Protocol

import grpc
import structlog
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from headrace.common.v1 import errors_pb2
from headrace.rpc.credentials import server_credentials
from headrace.rpc.errors import ServiceError, status_message, trailing_status
from headrace.rpc.frame_stream import FrameViolationError, StreamLostError
from headrace.rpc.limits import SERVER_OPTIONS
from headrace.runtime.errors import StartError
from headrace.runtime.listening import host_and_port
from headrace.runtime.tls_settings import ServerTlsSettings

_log = structlog.get_logger(__name__)

LAST_WORDS_SECONDS = 2.0
"""Longest time in which the last frames of a server that has ended go out."""


class ErrorBoundary(grpc.aio.ServerInterceptor):  # type: ignore[misc] # grpc is untyped
    """Catches what our handlers raise and answers with the status that it stands for.

    All of them are coroutines, streaming ones included: they read and write through the context.
    """

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        """Wrap the handler of the call, if it is ours."""
        handler = await continuation(handler_call_details)
        method = handler_call_details.method
        if handler is None or not method.startswith("/headrace."):
            return handler
        forms = (
            (handler.unary_unary, grpc.unary_unary_rpc_method_handler),
            (handler.unary_stream, grpc.unary_stream_rpc_method_handler),
            (handler.stream_stream, grpc.stream_stream_rpc_method_handler),
        )
        behaviour, make = next(form for form in forms if form[0])
        return make(
            _guarded(behaviour, method), handler.request_deserializer, handler.response_serializer
        )


def _guarded(behaviour: Callable[..., Awaitable[Any]], method: str) -> Callable[..., Any]:
    async def guarded(request: Any, context: grpc.aio.ServicerContext) -> Any:
        try:
            return await behaviour(request, context)
        except grpc.aio.AbortError:
            raise
        except Exception as error:  # noqa: BLE001 (the gRPC server's boundary)
            await _abort(error, context, method)

    return guarded


async def _abort(error: Exception, context: grpc.aio.ServicerContext, method: str) -> NoReturn:
    await refuse_call(_service_error(error, method), context)


async def refuse_call(error: ServiceError, context: grpc.aio.ServicerContext) -> NoReturn:
    """End a call with an error's status; a call whose caller has left ends as a cancelled one."""
    try:
        await context.abort(error.row.grpc_code, status_message(error), trailing_status(error))
    except grpc.aio.InternalError as gone:
        # gRPC could not write the status. Anything but this it would log as our failure.
        raise asyncio.CancelledError from gone
    raise AssertionError("abort returns never")


def _service_error(error: Exception, method: str) -> ServiceError:
    if isinstance(error, ServiceError):
        return error
    if isinstance(error, FrameViolationError):
        _log.error("frame_violation", method=method, problem=str(error))
        return ServiceError(errors_pb2.ERROR_REASON_INCOMPATIBLE_PEER, str(error))
    if isinstance(error, StreamLostError):
        _log.warning("stream_lost", method=method, problem=str(error))
        return ServiceError(errors_pb2.ERROR_REASON_CLIENT_CANCELLED, str(error))
    _log.error("unhandled_error", method=method, exc_info=error)
    return ServiceError(errors_pb2.ERROR_REASON_ENGINE_FAILURE, "internal error")


class DrainingServicer(Protocol):
    """A servicer that can come to an end."""

    def drain(self) -> None:
        """Take nothing new, and say so to every peer."""

    async def drained(self) -> None:
        """Return when nothing runs any more."""


class GrpcServer:
    """A service's server: bound at construction, healthy from `serve` to `not_serving`.

    `add` registers a servicer by its generated function; `service_names` are what health and
    reflection know; `interceptors` come behind the boundary of errors. Raises StartError for an
    address that cannot be bound, and for TLS files that cannot be used.
    """

    def __init__(
        self,
        host: str,
        port: int,
        service_names: Sequence[str],
        *,
        tls: ServerTlsSettings | None = None,
        interceptors: Sequence[grpc.aio.ServerInterceptor] = (),
    ) -> None:
        credentials = server_credentials(tls or ServerTlsSettings())
        self._server = grpc.aio.server(
            interceptors=[ErrorBoundary(), *interceptors], options=SERVER_OPTIONS
        )
        self._names = ("", *service_names)
        self._health = health.aio.HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        names = (*service_names, health.SERVICE_NAME, reflection.SERVICE_NAME)
        reflection.enable_server_reflection(names, self._server)
        self.host = host
        address = host_and_port(host, port)
        try:
            self.port = self._bind(address, credentials)
        except RuntimeError as error:
            raise StartError(f"cannot listen on {address}: the port is taken") from error

    def _bind(self, address: str, credentials: grpc.ServerCredentials | None) -> int:
        port: int = (
            self._server.add_insecure_port(address)
            if credentials is None
            else self._server.add_secure_port(address, credentials)
        )
        return port

    def add(self, register: Callable[[Any, Any], None], servicer: object) -> None:
        """Register a servicer with its generated `add_…Servicer_to_server`."""
        register(servicer, self._server)

    async def serve(self) -> None:
        """Accept calls and report healthy."""
        await self._server.start()
        await self._set_health(health_pb2.HealthCheckResponse.SERVING)

    async def not_serving(self) -> None:
        """Report unhealthy; calls are still served."""
        await self._set_health(health_pb2.HealthCheckResponse.NOT_SERVING)

    async def drain(self, servicer: DrainingServicer, grace_seconds: float) -> bool:
        """Take nothing new and let what runs end; false when the grace was over before that."""
        await self.not_serving()
        servicer.drain()
        try:
            async with asyncio.timeout(grace_seconds):
                await servicer.drained()
        except TimeoutError:
            return False
        # What ended last is still on its way.
        await self.stop(LAST_WORDS_SECONDS)
        return True

    async def stop(self, grace_seconds: float) -> None:
        """Take nothing new and end what runs, at the latest after the grace."""
        await self._server.stop(grace_seconds)

    async def _set_health(self, status: int) -> None:
        for name in self._names:
            await self._health.set(name, status)

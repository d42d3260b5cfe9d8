"""The boundary of the gRPC server: what handlers raise, as statuses; health; the taken port."""

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import grpc
import pytest
import structlog
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from headrace.common.v1 import errors_pb2
from headrace.rpc.errors import ServiceError, error_from_rpc
from headrace.rpc.frame_stream import FrameViolationError, StreamLostError
from headrace.rpc.server import GrpcServer
from headrace.runtime.errors import StartError
from headrace.worker.v1.generate_pb2 import GenerateRequest
from headrace.worker.v1.model_pb2 import GetModelRequest, GetModelResponse
from headrace.worker.v1.service_pb2_grpc import (
    GenerationServiceServicer,
    GenerationServiceStub,
    add_GenerationServiceServicer_to_server,
)

NAME = "headrace.worker.v1.GenerationService"
SECRET = "the stack and the prompt"  # noqa: S105 (what must not reach the wire)


class Raising(GenerationServiceServicer):
    """Every handler raises what it was given."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    async def GetModel(  # noqa: N802 (gRPC's name)
        self, request: GetModelRequest, context: grpc.aio.ServicerContext
    ) -> GetModelResponse:
        raise self._error

    async def Generate(  # noqa: N802 (gRPC's name)
        self, request: GenerateRequest, context: grpc.aio.ServicerContext
    ) -> None:
        raise self._error

    async def Attach(  # noqa: N802 (gRPC's name)
        self, request_iterator: object, context: grpc.aio.ServicerContext
    ) -> None:
        raise self._error


CALLS: dict[str, Callable[[GenerationServiceStub], Awaitable[object]]] = {
    "GetModel": lambda stub: stub.GetModel(GetModelRequest()),
    "Generate": lambda stub: stub.Generate(GenerateRequest()).read(),
    "Attach": lambda stub: stub.Attach().read(),
}


@asynccontextmanager
async def serving(error: Exception) -> AsyncIterator[tuple[GrpcServer, grpc.aio.Channel]]:
    """A server whose handlers raise `error`."""
    server = GrpcServer("127.0.0.1", 0, [NAME])
    server.add(add_GenerationServiceServicer_to_server, Raising(error))
    await server.serve()
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
            yield server, channel
    finally:
        await server.stop(0)


@pytest.mark.parametrize("form", CALLS)
@pytest.mark.parametrize(
    ("error", "reason", "message", "event"),
    [
        (
            ServiceError(errors_pb2.ERROR_REASON_OVERLOADED, "full", "n"),
            errors_pb2.ERROR_REASON_OVERLOADED,
            "full",
            None,
        ),
        (
            FrameViolationError("not like that"),
            errors_pb2.ERROR_REASON_INCOMPATIBLE_PEER,
            "not like that",
            "frame_violation",
        ),
        (
            StreamLostError("silent"),
            errors_pb2.ERROR_REASON_CLIENT_CANCELLED,
            "silent",
            "stream_lost",
        ),
        (
            ValueError(SECRET),
            errors_pb2.ERROR_REASON_ENGINE_FAILURE,
            "internal error",
            "unhandled_error",
        ),
    ],
)
async def test_what_a_handler_raises_becomes_its_status(
    form: str, error: Exception, reason: int, message: str, event: str | None
) -> None:
    """All three call forms: reason and message by the table; stacks go to the log alone."""
    with structlog.testing.capture_logs() as logs:
        async with serving(error) as (_, channel):
            stub = GenerationServiceStub(channel)
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await CALLS[form](stub)
    read = error_from_rpc(caught.value, peer="p")

    assert (reason, message) == (read.reason, read.message)
    assert SECRET not in str(caught.value.trailing_metadata()) + (caught.value.details() or "")
    assert [event] * bool(event) == [entry["event"] for entry in logs]


async def test_health_follows_serve_and_not_serving() -> None:
    """The whole server and the service by name are healthy until they say otherwise."""
    async with serving(ValueError()) as (server, channel):
        health = health_pb2_grpc.HealthStub(channel)
        names = ("", NAME)
        before = [
            (await health.Check(health_pb2.HealthCheckRequest(service=n))).status for n in names
        ]
        await server.not_serving()
        after = [
            (await health.Check(health_pb2.HealthCheckRequest(service=n))).status for n in names
        ]

    assert [health_pb2.HealthCheckResponse.SERVING] * 2 == before
    assert [health_pb2.HealthCheckResponse.NOT_SERVING] * 2 == after


async def test_reflection_lists_the_service() -> None:
    """A tool like grpcurl finds the service, health and reflection."""
    async with serving(ValueError()) as (_, channel):
        stub = reflection_pb2_grpc.ServerReflectionStub(channel)
        call = stub.ServerReflectionInfo()
        await call.write(reflection_pb2.ServerReflectionRequest(list_services=""))
        response = await asyncio.wait_for(call.read(), 5)
        call.cancel()
    listed = {service.name for service in response.list_services_response.service}

    assert {NAME, "grpc.health.v1.Health"} <= listed


async def test_a_taken_port_is_one_sentence() -> None:
    """The second server on a port cannot start, and says which address."""
    async with serving(ValueError()) as (server, _):
        with pytest.raises(StartError, match=rf"127\.0\.0\.1:{server.port}.*taken"):
            GrpcServer("127.0.0.1", server.port, [NAME])


async def test_listens_on_an_ipv6_address() -> None:
    """As pods of an IPv6 cluster have."""
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("this machine has no IPv6 loopback")
    server = GrpcServer("::1", 0, [NAME])
    await server.serve()
    try:
        async with grpc.aio.insecure_channel(f"[::1]:{server.port}") as channel:
            stub = health_pb2_grpc.HealthStub(channel)
            answer = await stub.Check(health_pb2.HealthCheckRequest())
    finally:
        await server.stop(0)

    assert answer.status == health_pb2.HealthCheckResponse.SERVING

"""What the client's spans of calls have in common: whom they call, and how they end."""

import asyncio

from headrace.common.v1 import errors_pb2
from headrace.rpc.errors import ServiceError
from headrace.telemetry import names
from headrace.telemetry.spans import Attributes, Span


def cancelled() -> ServiceError:
    """What a request ended with that its caller no longer wants."""
    return ServiceError(errors_pb2.ERROR_REASON_CLIENT_CANCELLED, "The caller ended the request.")


def service_error_of(error: BaseException) -> ServiceError:
    """The failure that an exception stands for: an unforeseen one is this process's own."""
    if isinstance(error, ServiceError):
        return error
    if isinstance(error, (asyncio.CancelledError, GeneratorExit, ConnectionError)):
        return cancelled()
    return ServiceError(errors_pb2.ERROR_REASON_ENGINE_FAILURE, type(error).__name__)


def address_attributes(address: str) -> Attributes:
    """The peer at host:port."""
    host, _, port = address.rpartition(":")
    found: dict[str, str | int] = {names.PEER_ADDRESS: address, names.SERVER_ADDRESS: host}
    if port.isascii() and port.isdigit():
        found[names.SERVER_PORT] = int(port)
    return found


def end_rpc(span: Span, error: ServiceError | None) -> None:
    """End a call's span with its status; on a shared stream that of the reason."""
    if span.is_recording:
        code = "OK" if error is None else error.row.grpc_code.name
        span.set({names.RPC_STATUS: code})
        if error is not None:
            span.fail(error.label)
    span.end()

"""Every way in which a request can fail, and how each failure looks in every form it takes.

One reason, one row: gRPC code, HTTP status, OpenAI's `type` and `code`, whether a client may retry,
and the metric label (the reason's name in lower case). `edge` renders the HTTP forms, the gRPC
servers render a status with `google.rpc.ErrorInfo`, the shared streams render a `Failure` message;
all three read this table and nothing else. What the reasons mean: common/v1/errors.proto.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import ceil
from typing import TypeAlias

import grpc
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2

from headrace.common.v1 import errors_pb2

DOMAIN = "headrace"
_INFO_TYPE = "type.googleapis.com/google.rpc.ErrorInfo"
_STATUS_KEY = "grpc-status-details-bin"
_MAX_STATUS_BYTES = 1000
"""Of a message: a status travels in trailers, of which gRPC takes 8 KiB in all; and in a shared
stream nobody sends a long name to have it sent back."""

_MAX_WAIT_MS = 2**32 - 1

# Enum values are plain ints; this is the type that the stubs give them.
Reason: TypeAlias = "errors_pb2.ErrorReason.ValueType"


@dataclass(frozen=True, slots=True)
class ErrorRow:
    """How one reason is rendered. `openai_code` is the default; a raiser may give a finer one."""

    grpc_code: grpc.StatusCode
    http_status: int
    openai_type: str
    openai_code: str | None
    retryable: bool


def _row(
    code: grpc.StatusCode, status: int, kind: str, openai_code: str | None, *, retry: bool = False
) -> ErrorRow:
    return ErrorRow(code, status, kind, openai_code, retry)


_G = grpc.StatusCode
_INVALID = "invalid_request_error"
_SERVER = "server_error"
_BUSY = "service_unavailable_error"
R = errors_pb2

ERROR_TABLE: Mapping[Reason, ErrorRow] = {
    R.ERROR_REASON_INVALID_REQUEST: _row(_G.INVALID_ARGUMENT, 400, _INVALID, None),
    R.ERROR_REASON_UNSUPPORTED_PARAMETER: _row(
        _G.UNIMPLEMENTED, 400, _INVALID, "unsupported_parameter"
    ),
    R.ERROR_REASON_CONTEXT_LENGTH_EXCEEDED: _row(
        _G.OUT_OF_RANGE, 400, _INVALID, "context_length_exceeded"
    ),
    R.ERROR_REASON_INVALID_API_KEY: _row(_G.UNAUTHENTICATED, 401, _INVALID, "invalid_api_key"),
    R.ERROR_REASON_MODEL_NOT_FOUND: _row(_G.NOT_FOUND, 404, _INVALID, "model_not_found"),
    R.ERROR_REASON_NOT_FOUND: _row(_G.NOT_FOUND, 404, _INVALID, None),
    R.ERROR_REASON_METHOD_NOT_ALLOWED: _row(
        _G.UNIMPLEMENTED, 405, _INVALID, "method_not_supported"
    ),
    R.ERROR_REASON_REQUEST_TIMEOUT: _row(_G.DEADLINE_EXCEEDED, 408, _INVALID, "request_timeout"),
    R.ERROR_REASON_REQUEST_TOO_LARGE: _row(_G.INVALID_ARGUMENT, 413, _INVALID, "request_too_large"),
    R.ERROR_REASON_DUPLICATE_REQUEST_ID: _row(_G.ALREADY_EXISTS, 500, _SERVER, "internal_error"),
    R.ERROR_REASON_RATE_LIMITED: _row(
        _G.RESOURCE_EXHAUSTED, 429, "rate_limit_error", "rate_limit_exceeded", retry=True
    ),
    R.ERROR_REASON_OVERLOADED: _row(_G.RESOURCE_EXHAUSTED, 503, _BUSY, None, retry=True),
    R.ERROR_REASON_NO_WORKER_AVAILABLE: _row(
        _G.UNAVAILABLE, 503, _BUSY, "no_worker_available", retry=True
    ),
    R.ERROR_REASON_DRAINING: _row(_G.UNAVAILABLE, 503, _BUSY, "draining", retry=True),
    R.ERROR_REASON_WORKER_LOST: _row(_G.UNAVAILABLE, 502, _SERVER, "worker_lost", retry=True),
    R.ERROR_REASON_DEADLINE_EXCEEDED: _row(
        _G.DEADLINE_EXCEEDED, 504, _SERVER, "deadline_exceeded", retry=True
    ),
    R.ERROR_REASON_INCOMPATIBLE_PEER: _row(
        _G.FAILED_PRECONDITION, 500, _SERVER, "incompatible_peer"
    ),
    R.ERROR_REASON_ENGINE_FAILURE: _row(_G.INTERNAL, 500, _SERVER, None),
    R.ERROR_REASON_CLIENT_CANCELLED: _row(_G.CANCELLED, 499, _INVALID, None),
    R.ERROR_REASON_SLOW_READER: _row(_G.CANCELLED, 499, _INVALID, None),
    R.ERROR_REASON_EDGE_LOST: _row(_G.CANCELLED, 499, _INVALID, None),
}

# For a peer's status that carries no ErrorInfo of ours: every gRPC code has a reason.
_FALLBACK: Mapping[grpc.StatusCode, Reason] = {
    _G.OK: R.ERROR_REASON_ENGINE_FAILURE,
    # Who cancels a call itself is not told by a status: this is a peer that dropped it.
    _G.CANCELLED: R.ERROR_REASON_WORKER_LOST,
    _G.UNKNOWN: R.ERROR_REASON_ENGINE_FAILURE,
    _G.INVALID_ARGUMENT: R.ERROR_REASON_INVALID_REQUEST,
    _G.DEADLINE_EXCEEDED: R.ERROR_REASON_DEADLINE_EXCEEDED,
    _G.NOT_FOUND: R.ERROR_REASON_MODEL_NOT_FOUND,
    _G.ALREADY_EXISTS: R.ERROR_REASON_DUPLICATE_REQUEST_ID,
    _G.PERMISSION_DENIED: R.ERROR_REASON_INVALID_API_KEY,
    _G.RESOURCE_EXHAUSTED: R.ERROR_REASON_OVERLOADED,
    _G.FAILED_PRECONDITION: R.ERROR_REASON_INCOMPATIBLE_PEER,
    _G.ABORTED: R.ERROR_REASON_ENGINE_FAILURE,
    _G.OUT_OF_RANGE: R.ERROR_REASON_CONTEXT_LENGTH_EXCEEDED,
    _G.UNIMPLEMENTED: R.ERROR_REASON_UNSUPPORTED_PARAMETER,
    _G.INTERNAL: R.ERROR_REASON_ENGINE_FAILURE,
    _G.UNAVAILABLE: R.ERROR_REASON_NO_WORKER_AVAILABLE,
    _G.DATA_LOSS: R.ERROR_REASON_ENGINE_FAILURE,
    _G.UNAUTHENTICATED: R.ERROR_REASON_INVALID_API_KEY,
}


@dataclass(eq=False)
class ServiceError(Exception):
    """A request's failure: why, one sentence, and the parameter at fault.

    `openai_code` and `openai_type` override the row's (a reason may have several, such as
    `integer_above_max_value`; an empty code is null); they are the edge's and never cross a gRPC
    border. `retry_after_seconds` becomes Retry-After where the row says that a retry may help, and
    RetryInfo in a status. `is_final` says that it helps nobody, whatever the row says.
    """

    reason: Reason
    message: str
    param: str | None = None
    openai_code: str | None = field(default=None, kw_only=True)
    openai_type: str | None = field(default=None, kw_only=True)
    retry_after_seconds: float | None = field(default=None, kw_only=True)
    is_final: bool = field(default=False, kw_only=True)

    def __str__(self) -> str:
        return self.message

    @property
    def row(self) -> ErrorRow:
        """The reason's row; a reason unknown to this build is an engine failure."""
        return ERROR_TABLE.get(self.reason, ERROR_TABLE[R.ERROR_REASON_ENGINE_FAILURE])

    @property
    def label(self) -> str:
        """The reason's name for metrics and logs, such as `worker_lost`."""
        return reason_label(self.reason)


def reason_label(reason: Reason) -> str:
    """The reason's name in lower case without its prefix; `unknown` for a value of a newer peer."""
    if reason not in ERROR_TABLE:
        return "unknown"
    return R.ErrorReason.Name(reason).removeprefix("ERROR_REASON_").lower()


def failure_from_error(error: ServiceError) -> errors_pb2.Failure:
    """The form that a failure has inside a shared stream, as long as in a status."""
    seconds = error.retry_after_seconds
    return errors_pb2.Failure(
        reason=error.reason,
        message=status_message(error),
        parameter=error.param,
        retry_after_ms=None if seconds is None else min(ceil(seconds * 1000), _MAX_WAIT_MS),
    )


def error_from_failure(failure: errors_pb2.Failure) -> ServiceError:
    """Read a failure from a shared stream; a reason unknown here becomes an engine failure."""
    reason = failure.reason if failure.reason in ERROR_TABLE else R.ERROR_REASON_ENGINE_FAILURE
    param = failure.parameter if failure.HasField("parameter") else None
    seconds = failure.retry_after_ms / 1000 if failure.HasField("retry_after_ms") else None
    return ServiceError(reason, failure.message, param, retry_after_seconds=seconds)


def status_from_error(error: ServiceError) -> status_pb2.Status:
    """The gRPC status with ErrorInfo: reason by name, the parameter in its metadata.

    RetryInfo beside it says how long to wait, where that is known.
    """
    info = error_details_pb2.ErrorInfo(reason=R.ErrorReason.Name(error.reason), domain=DOMAIN)
    if error.param is not None:
        info.metadata["parameter"] = error.param
    status = status_pb2.Status(code=error.row.grpc_code.value[0], message=status_message(error))
    status.details.add().Pack(info)
    if error.retry_after_seconds is not None:
        retry = error_details_pb2.RetryInfo()
        retry.retry_delay.FromNanoseconds(int(error.retry_after_seconds * 1e9))
        status.details.add().Pack(retry)
    return status


def status_message(error: ServiceError) -> str:
    """The error's sentence, cut to what a status can carry."""
    raw = error.message.encode()
    if len(raw) <= _MAX_STATUS_BYTES:
        return error.message
    return raw[:_MAX_STATUS_BYTES].decode(errors="ignore") + "…"


def error_from_rpc(error: grpc.aio.AioRpcError, *, peer: str) -> ServiceError:
    """Read a peer's gRPC status; one without our ErrorInfo falls back on its code."""
    for key, value in error.trailing_metadata() or ():
        found = _error_from_trailer(value) if key == _STATUS_KEY else None
        if found is not None:
            return found
    detail = error.details() or error.code().name
    return ServiceError(reason_of_code(error.code()), f"{peer}: {detail}")


def reason_of_code(code: grpc.StatusCode) -> Reason:
    """The reason of a status that names none."""
    return _FALLBACK[code]


def _error_from_trailer(value: str | bytes) -> ServiceError | None:
    """The error in a rich status; None for one that is not ours or cannot be read."""
    try:
        return _error_from_status(status_pb2.Status.FromString(value))
    except DecodeError:
        return None


def _error_from_status(status: status_pb2.Status) -> ServiceError | None:
    for detail in status.details:
        info = error_details_pb2.ErrorInfo()
        if detail.type_url == _INFO_TYPE and detail.Unpack(info) and info.domain == DOMAIN:
            known = info.reason in R.ErrorReason.keys()  # noqa: SIM118 (an enum wrapper is no dict)
            reason = R.ErrorReason.Value(info.reason) if known else R.ERROR_REASON_ENGINE_FAILURE
            param = info.metadata.get("parameter")
            wait = _retry_after_seconds(status)
            return ServiceError(reason, status.message, param, retry_after_seconds=wait)
    return None


def _retry_after_seconds(status: status_pb2.Status) -> float | None:
    retry = error_details_pb2.RetryInfo()
    for detail in status.details:
        if detail.Is(retry.DESCRIPTOR) and detail.Unpack(retry):
            seconds: float = retry.retry_delay.ToNanoseconds() / 1e9
            return seconds
    return None


def trailing_status(error: ServiceError) -> tuple[tuple[str, bytes], ...]:
    """Trailing metadata that carries the rich status beside the plain code."""
    return ((_STATUS_KEY, status_from_error(error).SerializeToString()),)


@contextmanager
def translated_rpc_errors(peer: str) -> Iterator[None]:
    """Raise a peer's AioRpcError as the ServiceError it stands for; messages name `peer`."""
    try:
        yield
    except grpc.aio.AioRpcError as error:
        raise error_from_rpc(error, peer=peer) from error

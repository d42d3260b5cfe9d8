"""The collector: one channel, one method, and what its errors mean.

opentelemetry.proto.collector.trace.v1.TraceService/Export, by
https://opentelemetry.io/docs/specs/otlp/#otlpgrpc (status codes, RetryInfo, partial success).
"""

import ssl
from pathlib import Path
from typing import Final

import grpc
from google.protobuf.message import DecodeError
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

from headrace.telemetry.collector_address import CollectorAddress
from headrace.telemetry.span_counts import REFUSED, TIMEOUT, UNREACHABLE

_METHOD: Final = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
_DETAILS: Final = "grpc-status-details-bin"
_OPTIONS: Final = (
    ("grpc.primary_user_agent", "headrace"),
    # A collector that has come back is found within seconds; the default grows to two minutes.
    ("grpc.initial_reconnect_backoff_ms", 500),
    ("grpc.max_reconnect_backoff_ms", 5000),
    # Two collectors of one process (tests, mostly) share no connection and no back-off.
    ("grpc.use_local_subchannel_pool", 1),
)
_REASONS: Final = {
    grpc.StatusCode.UNAVAILABLE: UNREACHABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED: TIMEOUT,
}
_RETRIED: Final = frozenset(
    {
        grpc.StatusCode.CANCELLED,
        grpc.StatusCode.ABORTED,
        grpc.StatusCode.OUT_OF_RANGE,
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DATA_LOSS,
    }
)
"""Besides RESOURCE_EXHAUSTED with RetryInfo, and a deadline of which time is left."""


class CollectorError(Exception):
    """A batch was not taken; the message says why."""

    def __init__(
        self,
        message: str,
        reason: str,
        wished_seconds: float | None = None,
        *,
        may_retry: bool = False,
    ) -> None:
        super().__init__(message)
        self.reason = reason
        """Of `LOSS_REASONS`."""
        self.wished_seconds = wished_seconds
        """After how long the collector wants it again; None where it did not say."""
        self.may_retry = may_retry
        """Whether the same batch may come again."""

    @classmethod
    def of(cls, error: grpc.aio.AioRpcError) -> "CollectorError":
        """What a failed call means."""
        code = error.code()
        wished_seconds = _wished_seconds(error)
        return cls(
            f"{code.name}: {error.details()}",
            _REASONS.get(code, REFUSED),
            wished_seconds,
            may_retry=code in _RETRIED or wished_seconds is not None,
        )


class Collector:
    """Takes batches; to be closed."""

    def __init__(self, address: CollectorAddress) -> None:
        """Connects when it is first used."""
        if address.uses_tls:
            credentials = grpc.ssl_channel_credentials(_system_roots())
            self._channel = grpc.aio.secure_channel(address.target, credentials, options=_OPTIONS)
        else:
            self._channel = grpc.aio.insecure_channel(address.target, options=_OPTIONS)
        # Answers are read here: gRPC would make None of one that is malformed.
        self._export = self._channel.unary_unary(
            _METHOD, request_serializer=ExportTraceServiceRequest.SerializeToString
        )

    async def export(
        self, request: ExportTraceServiceRequest, timeout_seconds: float
    ) -> ExportTraceServiceResponse:
        """Send a batch. Raises CollectorError."""
        try:
            answer = await self._export(request, timeout=timeout_seconds)
        except grpc.aio.AioRpcError as error:
            raise CollectorError.of(error) from error
        try:
            return ExportTraceServiceResponse.FromString(answer)
        except DecodeError as error:
            raise CollectorError("what answers is no collector of traces", REFUSED) from error

    async def close(self) -> None:
        """End what goes on."""
        await self._channel.close()


def _system_roots() -> bytes | None:
    """The system's certificates, as OpenSSL finds them; None for those that gRPC brings along."""
    file = ssl.get_default_verify_paths().cafile
    return None if file is None else Path(file).read_bytes()


def _wished_seconds(error: grpc.aio.AioRpcError) -> float | None:
    """RetryInfo's delay, of the codes with which the specification knows it."""
    if error.code() not in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED):
        return None
    for key, value in error.trailing_metadata() or ():
        if key == _DETAILS:
            return _delay_of(value)
    return None


def _delay_of(details: bytes) -> float | None:
    """The delay; None for details without one, and for those that cannot be read."""
    try:
        for packed in Status.FromString(details).details:
            if packed.Is(RetryInfo.DESCRIPTOR):
                delay = RetryInfo.FromString(packed.value).retry_delay
                seconds: float = delay.seconds + delay.nanos / 1e9
                return max(0.0, seconds)
    except DecodeError:
        return None
    return None

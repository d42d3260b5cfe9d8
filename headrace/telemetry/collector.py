"""The collector: one channel, one method, and what its errors mean.

opentelemetry.proto.collector.trace.v1.TraceService/Export, by
https://opentelemetry.io/docs/specs/otlp/#otlpgrpc (status codes, RetryInfo, partial success).
"""

from typing import Final

import grpc
from google.protobuf.message import DecodeError
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

from headrace.runtime.listening import is_loopback
from headrace.telemetry.collector_access import CollectorAccess, CollectorTls
from headrace.telemetry.collector_headers import CollectorHeaders
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
_COMPRESSIONS: Final = {
    "none": grpc.Compression.NoCompression,
    "gzip": grpc.Compression.Gzip,
}
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
    def of(cls, error: grpc.aio.AioRpcError, headers: CollectorHeaders) -> "CollectorError":
        """What a call that failed with these headers means."""
        code = error.code()
        wished_seconds = _wished_seconds(error)
        return cls(
            headers.masked(f"{code.name}: {error.details()}"),
            _REASONS.get(code, REFUSED),
            wished_seconds,
            may_retry=code in _RETRIED or wished_seconds is not None,
        )


class Collector:
    """Takes batches, one after the other; to be closed."""

    def __init__(self, access: CollectorAccess) -> None:
        """Connects when it is first used."""
        self._access = access
        self._open(access.tls())

    async def export(
        self, request: ExportTraceServiceRequest, timeout_seconds: float
    ) -> ExportTraceServiceResponse:
        """Send a batch. Raises CollectorError."""
        tls = self._access.tls()
        if tls is not self._tls:
            await self._channel.close()
            self._open(tls)
        headers = self._access.headers()
        try:
            answer = await self._export(
                request, timeout=timeout_seconds, metadata=headers.metadata or None
            )
        except grpc.aio.AioRpcError as error:
            raise CollectorError.of(error, headers) from error
        try:
            response = ExportTraceServiceResponse.FromString(answer)
        except DecodeError as error:
            raise CollectorError("what answers is no collector of traces", REFUSED) from error
        told = response.partial_success.error_message
        if told:
            response.partial_success.error_message = headers.masked(told)
        return response

    async def close(self) -> None:
        """End what goes on."""
        await self._channel.close()

    def _open(self, tls: CollectorTls | None) -> None:
        """A channel by these certificates."""
        self._tls = tls
        self._channel = _channel(self._access, tls)
        # Answers are read here: gRPC would make None of one that is malformed.
        self._export = self._channel.unary_unary(
            _METHOD, request_serializer=ExportTraceServiceRequest.SerializeToString
        )


def _channel(access: CollectorAccess, tls: CollectorTls | None) -> grpc.aio.Channel:
    """A channel that connects when it is used."""
    address = access.address
    # No proxy reaches this machine's own collector; one would see the headers.
    options = (*_OPTIONS, ("grpc.enable_http_proxy", int(not is_loopback(address.host))))
    compression = _COMPRESSIONS[access.compression]
    if tls is None:
        return grpc.aio.insecure_channel(address.target, options, compression)
    pair = tls.pair
    credentials = grpc.ssl_channel_credentials(
        tls.authorities,
        None if pair is None else pair.key,
        None if pair is None else pair.certificates,
    )
    return grpc.aio.secure_channel(address.target, credentials, options, compression)


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

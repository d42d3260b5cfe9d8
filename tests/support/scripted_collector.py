"""A collector on the test's own loop, which answers each batch as it is told to."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeAlias

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2_grpc import (
    TraceServiceServicer,
    add_TraceServiceServicer_to_server,
)
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from headrace.telemetry.settings import TracingSettings
from headrace.telemetry.span_counts import SpanCounts
from headrace.telemetry.spans import SpanKind, Tracing
from headrace.telemetry.trace_context import NO_TRACE
from tests.support.certificates import PemPair

Answer: TypeAlias = Callable[[grpc.aio.ServicerContext], Awaitable[ExportTraceServiceResponse]]


async def taken(context: grpc.aio.ServicerContext) -> ExportTraceServiceResponse:
    """The batch is taken."""
    return ExportTraceServiceResponse()


def rejecting(spans: int, message: str = "") -> Answer:
    """The batch is taken but for so many spans."""

    async def answer(context: grpc.aio.ServicerContext) -> ExportTraceServiceResponse:
        response = ExportTraceServiceResponse()
        response.partial_success.rejected_spans = spans
        response.partial_success.error_message = message
        return response

    return answer


def failing(code: grpc.StatusCode, retry_seconds: float | None = None) -> Answer:
    """The batch is not taken; with RetryInfo where `retry_seconds` says so."""

    async def answer(context: grpc.aio.ServicerContext) -> ExportTraceServiceResponse:
        trailing: list[tuple[str, bytes]] = []
        if retry_seconds is not None:
            delay = Duration()
            delay.FromMicroseconds(round(retry_seconds * 1e6))
            status = Status(code=code.value[0], message="not now")
            info = AnyMessage()
            info.Pack(RetryInfo(retry_delay=delay))
            status.details.append(info)
            trailing.append(("grpc-status-details-bin", status.SerializeToString()))
        context.set_trailing_metadata(tuple(trailing))
        await context.abort(code, "not now")
        raise AssertionError("abort returns")

    return answer


async def babbling(context: grpc.aio.ServicerContext) -> ExportTraceServiceResponse:
    """The batch is not taken, and the details of why are no message."""
    context.set_trailing_metadata((("grpc-status-details-bin", b"\xff\xff"),))
    await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "not now")
    raise AssertionError("abort returns")


async def never(context: grpc.aio.ServicerContext) -> ExportTraceServiceResponse:
    """No answer until the caller gives up."""
    await asyncio.Event().wait()
    raise AssertionError("the wait ends")


class ScriptedCollector(TraceServiceServicer):
    """Answers by `answers`, the last of which holds on."""

    def __init__(self, *answers: Answer) -> None:
        self._answers = list(answers) or [taken]
        self.arrived: asyncio.Queue[ExportTraceServiceRequest] = asyncio.Queue()
        self.headers: list[dict[str, str | bytes]] = []
        """Of each call."""
        self.endpoint = ""

    async def Export(  # noqa: N802 (gRPC's name)
        self, request: ExportTraceServiceRequest, context: grpc.aio.ServicerContext
    ) -> ExportTraceServiceResponse:
        """Keep a batch, and answer it as it is its turn."""
        self.headers.append(dict(context.invocation_metadata() or ()))
        self.arrived.put_nowait(request)
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        return await answer(context)

    async def spans(self, count: int) -> list[Span]:
        """The next spans, as soon as so many have come."""
        found: list[Span] = []
        while len(found) < count:
            found += spans_of(await self.arrived.get())
        return found


def spans_of(request: ExportTraceServiceRequest) -> list[Span]:
    """A batch's spans."""
    return [
        span
        for group in request.resource_spans
        for scope in group.scope_spans
        for span in scope.spans
    ]


def make_spans(tracing: Tracing, count: int = 1) -> None:
    """Begin and end so many first spans of traces."""
    for _ in range(count):
        tracing.begin("POST /x", SpanKind.SERVER, NO_TRACE).end()


def tracing_settings(endpoint: str, **given: object) -> TracingSettings:
    """Settings by which spans hardly wait."""
    return TracingSettings.model_validate(
        {"endpoint": endpoint, "export_interval_seconds": 0.01, **given}
    )


@asynccontextmanager
async def running_collector(
    *answers: Answer,
    port: int = 0,
    tls: PemPair | None = None,
    client_ca: bytes | None = None,
) -> AsyncIterator[ScriptedCollector]:
    """A collector that listens, over TLS where it has a certificate; mutual with `client_ca`."""
    collector = ScriptedCollector(*answers)
    server = grpc.aio.server()
    add_TraceServiceServicer_to_server(collector, server)
    address = f"127.0.0.1:{port}"
    if tls is None:
        bound, scheme = server.add_insecure_port(address), "http"
    else:
        pair = (tls.key.read_bytes(), tls.certificate.read_bytes())
        credentials = grpc.ssl_server_credentials([pair], client_ca, client_ca is not None)
        bound, scheme = server.add_secure_port(address, credentials), "https"
    collector.endpoint = f"{scheme}://127.0.0.1:{bound}"
    await server.start()
    try:
        yield collector
    finally:
        await server.stop(0)


class WatchedCounts(SpanCounts):
    """Counts that a test may wait for."""

    def __init__(self) -> None:
        super().__init__()
        self._changed = asyncio.Event()

    def exported(self, spans: int) -> None:
        super().exported(spans)
        self._changed.set()

    def dropped(self, reason: str, spans: int, problem: str = "") -> None:
        super().dropped(reason, spans, problem)
        self._changed.set()

    async def until(self, is_so: Callable[["WatchedCounts"], Any]) -> None:
        """Return when the counts are so."""
        while not is_so(self):
            self._changed.clear()
            await self._changed.wait()

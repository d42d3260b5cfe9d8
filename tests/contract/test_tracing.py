"""From spans to a collector over gRPC: what is sent, what is lost, and that nobody waits for it."""

import asyncio
import time

import grpc
import pytest
from structlog.testing import capture_logs

from headrace.runtime.identity import Identity
from headrace.telemetry.span_counts import (
    QUEUE_FULL,
    REFUSED,
    REJECTED,
    TIMEOUT,
    UNREACHABLE,
)
from headrace.telemetry.span_queue import DUE_SPANS
from headrace.telemetry.spans import SpanKind
from headrace.telemetry.trace_context import NO_TRACE
from headrace.telemetry.tracing import open_tracing
from tests.support.scripted_collector import (
    Answer,
    WatchedCounts,
    babbling,
    failing,
    make_spans,
    never,
    rejecting,
    running_collector,
    spans_of,
    taken,
    tracing_settings,
)

IDENTITY = Identity(build="headrace 1.2.3", instance_id="i-1")
AGES = 60.0


async def unused_port() -> int:
    """A port at which nobody listens."""
    server = await asyncio.start_server(lambda _reader, _writer: None, "127.0.0.1", 0)
    port: int = server.sockets[0].getsockname()[1]
    server.close()
    await server.wait_closed()
    return port


async def test_spans_arrive() -> None:
    """The collector gets who made the spans, and the spans with their parents."""
    counts = WatchedCounts()
    async with running_collector() as collector:
        async with open_tracing(
            tracing_settings(collector.endpoint), "edge", IDENTITY, counts
        ) as tracing:
            first = tracing.begin("POST /x", SpanKind.SERVER, NO_TRACE)
            child = tracing.begin("chat", SpanKind.CLIENT, first.context, {"n": 2})
            child.end()
            first.end()
            request = await collector.arrived.get()
        resource = {
            item.key: item.value.string_value
            for item in request.resource_spans[0].resource.attributes
        }
        sent_child, sent_first = spans_of(request)
    assert resource["service.name"] == "headrace-edge"
    assert resource["service.instance.id"] == "i-1"
    assert resource["service.version"] == "1.2.3"
    assert (sent_child.name, sent_first.name) == ("chat", "POST /x")
    assert sent_child.parent_span_id == sent_first.span_id
    assert sent_child.trace_id == sent_first.trace_id
    assert counts.num_exported == 2


async def test_resource_attributes_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a deployment adds by OTEL_RESOURCE_ATTRIBUTES is sent too, and takes no name away."""
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "k8s.pod.name=edge-0,service.name=mine")
    async with running_collector() as collector:
        async with open_tracing(tracing_settings(collector.endpoint), "edge", IDENTITY) as tracing:
            make_spans(tracing)
        request = await collector.arrived.get()
    resource = {
        item.key: item.value.string_value for item in request.resource_spans[0].resource.attributes
    }
    assert (resource["k8s.pod.name"], resource["service.name"]) == ("edge-0", "headrace-edge")


async def test_full_batches_wait_for_no_interval() -> None:
    """As many spans as a batch has are sent at once, in the order of their ends."""
    async with running_collector() as collector:
        group = tracing_settings(collector.endpoint, export_interval_seconds=AGES)
        async with open_tracing(group, "edge", IDENTITY) as tracing:
            for number in range(DUE_SPANS):
                tracing.begin(str(number), SpanKind.SERVER, NO_TRACE).end()
            spans = await collector.spans(DUE_SPANS)
    assert [span.name for span in spans] == [str(number) for number in range(DUE_SPANS)]


async def test_end_sends_what_waits() -> None:
    """Whatever waits when the service ends is sent before it has ended, interval or not."""
    counts = WatchedCounts()
    async with running_collector() as collector:
        group = tracing_settings(collector.endpoint, export_interval_seconds=AGES)
        async with open_tracing(group, "edge", IDENTITY, counts) as tracing:
            make_spans(tracing, 600)
        assert len(await collector.spans(600)) == 600
    assert (counts.num_exported, dict(counts.num_dropped)) == (600, {})


async def test_too_many_are_dropped_and_counted() -> None:
    """What comes on top of the bound is lost and counted, what waited is sent."""
    counts = WatchedCounts()
    async with running_collector() as collector:
        group = tracing_settings(
            collector.endpoint, max_waiting_spans=100, export_interval_seconds=AGES
        )
        async with open_tracing(group, "edge", IDENTITY, counts) as tracing:
            make_spans(tracing, 150)
        await collector.spans(100)
    assert (counts.num_exported, dict(counts.num_dropped)) == (100, {QUEUE_FULL: 50})


async def test_nobody_listens() -> None:
    """A collector that is not there costs the spans, told in one line, and holds nobody up."""
    counts = WatchedCounts()
    endpoint = f"http://127.0.0.1:{await unused_port()}"
    began = time.monotonic()
    with capture_logs() as lines:
        group = tracing_settings(endpoint, export_timeout_seconds=AGES)
        async with open_tracing(group, "edge", IDENTITY, counts) as tracing:
            make_spans(tracing, 300)
    assert dict(counts.num_dropped) == {UNREACHABLE: 300}
    assert [line["event"] for line in lines] == ["span_losses_began", "span_losses_ended"]
    assert lines[0]["reason"] == UNREACHABLE
    assert "UNAVAILABLE" in lines[0]["problem"]
    assert lines[1]["dropped"] == 300
    # The end tries once what waits, and does not wait for a collector to come.
    assert time.monotonic() - began < AGES / 2


async def test_gone_and_back() -> None:
    """After a collector has come back, at the same address, spans arrive again by themselves."""
    counts = WatchedCounts()
    port = await unused_port()
    group = tracing_settings(f"http://127.0.0.1:{port}", export_timeout_seconds=0.3)
    async with open_tracing(group, "edge", IDENTITY, counts) as tracing:
        make_spans(tracing)
        await counts.until(lambda now: now.num_dropped[UNREACHABLE] + now.num_dropped[TIMEOUT] == 1)
        async with running_collector(port=port) as collector:
            while not counts.num_exported:
                lost = counts.num_dropped.total()
                make_spans(tracing)
                await counts.until(
                    lambda now, lost=lost: now.num_exported or now.num_dropped.total() > lost  # type: ignore[misc]
                )
            assert await collector.spans(1)


async def test_slow_collector() -> None:
    """One that does not answer in time costs its batch, while the service goes on making spans."""
    counts = WatchedCounts()
    async with running_collector(taken, never, taken) as collector:
        group = tracing_settings(collector.endpoint, export_timeout_seconds=0.5)
        async with open_tracing(group, "edge", IDENTITY, counts) as tracing:
            # So that the time is not spent on connecting.
            make_spans(tracing)
            await counts.until(lambda now: now.num_exported)
            await collector.arrived.get()
            make_spans(tracing, 3)
            await collector.arrived.get()
            make_spans(tracing, 5)
            await counts.until(lambda now: now.num_exported > 1)
    assert (counts.num_exported, dict(counts.num_dropped)) == (6, {TIMEOUT: 3})


@pytest.mark.parametrize(
    "code",
    [
        grpc.StatusCode.INVALID_ARGUMENT,
        grpc.StatusCode.UNAUTHENTICATED,
        grpc.StatusCode.UNIMPLEMENTED,
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
    ],
)
async def test_refused(code: grpc.StatusCode) -> None:
    """A batch that the collector refuses for good is not sent again."""
    counts = WatchedCounts()
    async with running_collector(failing(code), taken) as collector:
        async with open_tracing(
            tracing_settings(collector.endpoint), "edge", IDENTITY, counts
        ) as tracing:
            make_spans(tracing, 2)
            await counts.until(lambda now: now.num_dropped)
            make_spans(tracing, 3)
            await counts.until(lambda now: now.num_exported)
        batches = [len(spans_of(collector.arrived.get_nowait())) for _ in range(2)]
    assert (batches, collector.arrived.empty()) == ([2, 3], True)
    assert (counts.num_exported, dict(counts.num_dropped)) == (3, {REFUSED: 2})


@pytest.mark.parametrize(
    "answer",
    [
        failing(grpc.StatusCode.UNAVAILABLE),
        failing(grpc.StatusCode.UNAVAILABLE, retry_seconds=0.01),
        failing(grpc.StatusCode.RESOURCE_EXHAUSTED, retry_seconds=0.01),
        failing(grpc.StatusCode.ABORTED),
        failing(grpc.StatusCode.CANCELLED),
    ],
)
async def test_sent_again(answer: Answer) -> None:
    """Where the collector allows it the same batch comes again, and nothing is lost."""
    counts = WatchedCounts()
    async with running_collector(answer, taken) as collector:
        async with open_tracing(
            tracing_settings(collector.endpoint), "edge", IDENTITY, counts
        ) as tracing:
            make_spans(tracing, 2)
            await counts.until(lambda now: now.num_exported)
        first, second = await collector.arrived.get(), await collector.arrived.get()
    assert first == second
    assert (counts.num_exported, dict(counts.num_dropped)) == (2, {})


async def test_malformed_details() -> None:
    """Details that cannot be read ask for nothing; the spans after them are sent."""
    counts = WatchedCounts()
    async with (
        running_collector(babbling, taken) as collector,
        open_tracing(tracing_settings(collector.endpoint), "edge", IDENTITY, counts) as tracing,
    ):
        make_spans(tracing, 2)
        await counts.until(lambda now: now.num_dropped)
        make_spans(tracing, 3)
        await counts.until(lambda now: now.num_exported)
    assert (counts.num_exported, dict(counts.num_dropped)) == (3, {REFUSED: 2})


async def test_malformed_answer() -> None:
    """What answers as no collector does is told so, and costs the batch alone."""
    handler = grpc.unary_unary_rpc_method_handler(_answer_nonsense)
    name = "opentelemetry.proto.collector.trace.v1.TraceService"
    server = grpc.aio.server()
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler(name, {"Export": handler}),)
    )
    endpoint = f"http://127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    await server.start()
    counts = WatchedCounts()
    async with open_tracing(tracing_settings(endpoint), "edge", IDENTITY, counts) as tracing:
        for batch in (1, 2):
            make_spans(tracing)
            await counts.until(lambda now, batch=batch: now.num_dropped[REFUSED] == batch)  # type: ignore[misc]
    await server.stop(0)
    assert counts.num_exported == 0


async def _answer_nonsense(_request: bytes, _context: grpc.aio.ServicerContext) -> bytes:
    return b"\xff\xff"


async def test_wished_delay_beyond_the_bound() -> None:
    """A collector that wants the batch later than it may wait loses it at once."""
    counts = WatchedCounts()
    later = failing(grpc.StatusCode.UNAVAILABLE, retry_seconds=AGES)
    async with (
        running_collector(later) as collector,
        open_tracing(tracing_settings(collector.endpoint), "edge", IDENTITY, counts) as tracing,
    ):
        make_spans(tracing, 2)
        await counts.until(lambda now: now.num_dropped)
    assert dict(counts.num_dropped) == {UNREACHABLE: 2}


async def test_partial_success() -> None:
    """Spans that the collector says it rejected are counted as lost, the others as sent."""
    counts = WatchedCounts()
    async with running_collector(rejecting(2, "too old")) as collector:
        with capture_logs() as lines:
            async with open_tracing(
                tracing_settings(collector.endpoint), "edge", IDENTITY, counts
            ) as tracing:
                make_spans(tracing, 5)
    assert (counts.num_exported, dict(counts.num_dropped)) == (3, {REJECTED: 2})
    assert lines[0]["problem"] == "too old"


async def test_warnings_are_told_once() -> None:
    """A collector that takes all and warns is heard, once for each warning; its silence is none."""
    counts = WatchedCounts()
    warning = rejecting(0, "use the new port")
    async with running_collector(warning, taken, warning, taken) as collector:
        with capture_logs() as lines:
            async with open_tracing(
                tracing_settings(collector.endpoint), "edge", IDENTITY, counts
            ) as tracing:
                for batch in (1, 2, 3, 4):
                    make_spans(tracing)
                    await counts.until(lambda now, batch=batch: now.num_exported == batch)  # type: ignore[misc]
    assert [line["message"] for line in lines] == ["use the new port"]

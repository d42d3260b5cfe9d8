"""Which spans are recorded, and what is handed on of those that are not."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

from opentelemetry.sdk.trace.sampling import TraceIdRatioBased

from headrace.telemetry.recorded_span import RecordedSpan
from headrace.telemetry.recording_tracing import RecordingTracing
from headrace.telemetry.span_counts import SpanCounts
from headrace.telemetry.span_queue import SpanQueue
from headrace.telemetry.spans import SilentSpan, Span, SpanKind, Tracing
from headrace.telemetry.trace_context import NO_TRACE, TraceContext, read_trace_context

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


class Traced:
    """A tracing, and the queue that it fills."""

    def __init__(self, ratio: float) -> None:
        self.queue = SpanQueue(1_000_000, SpanCounts())
        self.tracing: Tracing = RecordingTracing(self.queue, ratio)

    def begin(self, parent: TraceContext = NO_TRACE) -> Span:
        return self.tracing.begin("chat", SpanKind.CLIENT, parent, {"a": 1})


async def test_new_trace() -> None:
    """Without a caller's context a trace begins; what is handed on is valid and says so."""
    span = Traced(1.0).begin()
    again = read_trace_context([span.context.traceparent], [])
    assert isinstance(span, RecordedSpan)
    assert (again, again.is_sampled, span.place.parent_id) == (span.context, True, "")


async def test_unsampled_new_trace() -> None:
    """Not chosen, a new trace is handed on as such: whoever comes after it does not choose anew."""
    traced = Traced(0.0)
    span = traced.begin()
    again = read_trace_context([span.context.traceparent], [])
    assert isinstance(span, SilentSpan)
    assert (again, again.is_sampled) == (span.context, False)
    assert traced.begin(again).context == again


async def test_callers_decision_is_kept() -> None:
    """A ratio is for traces that begin here: a caller who records is recorded, and the reverse."""
    sampled = TraceContext(f"00-{TRACE}-{PARENT}-01", "a=b")
    unsampled = TraceContext(f"00-{TRACE}-{PARENT}-00", "a=b")
    recorded = Traced(0.0).begin(sampled)
    silent = Traced(1.0).begin(unsampled)

    assert isinstance(recorded, RecordedSpan)
    assert recorded.place.parent_id == PARENT
    assert (recorded.context.trace_id, recorded.context.tracestate) == (TRACE, "a=b")
    assert recorded.context.traceparent != sampled.traceparent
    assert not silent.is_recording
    assert silent.context == unsampled


async def test_flags() -> None:
    """A child says of its parent's flags what this version knows: sampled, and a random id."""
    traced = Traced(1.0)
    flags = [traced.begin(TraceContext(f"00-{TRACE}-{PARENT}-{flags}")) for flags in ("03", "ff")]
    assert [span.context.traceparent[-2:] for span in flags] == ["03", "03"]


async def test_ratio() -> None:
    """The part that is recorded is what OpenTelemetry's sampler would record of the same ids."""
    traced = Traced(0.25)
    sampler = TraceIdRatioBased(0.25)
    spans = [traced.begin() for _ in range(4000)]
    expected = [
        sampler.should_sample(None, int(span.context.trace_id, 16), "chat").decision.is_sampled()
        for span in spans
    ]
    assert [span.is_recording for span in spans] == expected
    assert 800 < sum(expected) < 1200


async def test_ids_differ() -> None:
    """No two spans of a process share an id."""
    traced = Traced(1.0)
    spans = [traced.begin() for _ in range(1000)]
    assert len({span.context.traceparent for span in spans}) == 1000
    assert len({span.context.trace_id for span in spans}) == 1000


async def test_unsampled_keeps_nothing() -> None:
    """A span that is not recorded takes whatever is said, and comes to nothing."""
    traced = Traced(0.0)
    span = traced.begin()
    span.set({"a": 1})
    span.event("something", {"b": 2}, at_ns=1)
    span.fail("worker_lost", "gone")
    span.end(5)
    assert (len(traced.queue), span.is_recording) == (0, False)


async def test_nothing_is_made_current() -> None:
    """A span is whose it is, not the task's: tasks that begin meanwhile know nothing of it."""
    traced = Traced(1.0)
    outer = traced.begin()

    async def other() -> Span:
        return traced.begin()

    inner = await asyncio.create_task(other())
    assert inner.context.trace_id != outer.context.trace_id


async def test_abandoned_generator() -> None:
    """A span of a generator that its consumer leaves ends with the generator, without a context."""
    traced = Traced(1.0)
    root = traced.begin()

    async def tokens() -> AsyncGenerator[int, None]:
        span = traced.begin(root.context)
        try:
            for number in range(10):
                yield number
        finally:
            span.end()

    async with aclosing(tokens()) as stream:
        async for _ in stream:
            break
    after = traced.begin(root.context)
    after.end()
    taken = [traced.queue.take(), traced.queue.take()]
    parents = [span.place.parent_id for span in taken if span is not None]
    assert parents == [root.context.traceparent[36:52]] * 2

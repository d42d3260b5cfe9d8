"""What is sent compressed, and with a key, reaches a real collector as it does without."""

import asyncio
from collections.abc import Sequence

import pytest

from headrace.runtime.identity import Identity
from headrace.telemetry.settings import TracingSettings
from headrace.telemetry.spans import SpanKind
from headrace.telemetry.trace_context import NO_TRACE
from headrace.telemetry.tracing import open_tracing
from tests.support.otlp_recorder import OtlpRecorder
from tests.support.scripted_collector import WatchedCounts
from tests.support.seen_spans import SeenSpan
from tests.telemetry.collector import Collector

CHILDREN = 150


@pytest.mark.parametrize("compression", ["none", "gzip"])
async def test_arrives(compression: str, recorder: OtlpRecorder, collector: Collector) -> None:
    """A trace of several batches is whole, and the collector has taken every span of it."""
    settings = TracingSettings.model_validate(
        {
            "endpoint": collector.endpoint,
            "compression": compression,
            "headers": "authorization=Bearer a-key,x-org=1",
            "export_interval_seconds": 0.05,
        }
    )
    counts = WatchedCounts()
    async with open_tracing(settings, "edge", Identity(), counts) as tracing:
        first = tracing.begin("compressed", SpanKind.SERVER, NO_TRACE)
        for number in range(CHILDREN):
            tracing.begin("part", SpanKind.INTERNAL, first.context, {"n": number}).end()
        first.end()
        await counts.until(lambda now: now.num_exported + now.num_dropped.total() > CHILDREN)

    def is_whole(spans: Sequence[SeenSpan]) -> bool:
        return len(spans) > CHILDREN

    trace_id = first.context.trace_id
    seen = await asyncio.to_thread(recorder.await_trace, trace_id, is_whole, 10)
    assert counts.num_exported == CHILDREN + 1
    assert {span.attributes["n"] for span in seen if span.name == "part"} == set(range(CHILDREN))
    assert [span.name for span in seen if not span.parent_id] == ["compressed"]

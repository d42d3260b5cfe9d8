"""What every service's /metrics has."""

import asyncio

from headrace.runtime.identity import Identity
from headrace.telemetry.bounded_labels import BoundedLabels
from headrace.telemetry.metrics import ServiceMetrics
from headrace.telemetry.service import open_telemetry
from headrace.telemetry.settings import TelemetrySettings, TracingSettings
from headrace.telemetry.span_counts import UNREACHABLE
from headrace.telemetry.spans import SpanKind
from headrace.telemetry.trace_context import NO_TRACE

IDENTITY = Identity(build="headrace 1.2.3", instance_id="i-1")


def test_common_figures() -> None:
    """Build, process, garbage collection and spans are there before anything has happened."""
    metrics = ServiceMetrics("edge", IDENTITY)
    read = metrics.registry.get_sample_value
    labels = {"service": "edge", "build": "headrace 1.2.3", "instance_id": "i-1"}
    assert read("headrace_build_info", labels) == 1
    assert (read("process_resident_memory_bytes") or 0) > 1_000_000
    assert read("python_gc_collections_total", {"generation": "0"}) is not None
    assert read("headrace_spans_exported_total") == 0
    assert read("headrace_loop_lag_seconds_count") == 0
    assert b"# TYPE headrace_spans_dropped_total counter" in metrics.render()


def test_registries_of_their_own() -> None:
    """Two services of a process share no figure."""
    one, other = ServiceMetrics("edge", IDENTITY), ServiceMetrics("worker", IDENTITY)
    one.spans.exported(3)
    assert other.registry.get_sample_value("headrace_spans_exported_total") == 0


async def test_telemetry_of_a_service() -> None:
    """While it is open the loop is watched; spans that are lost are in the service's figures."""
    metrics = ServiceMetrics("edge", IDENTITY)
    settings = TelemetrySettings(tracing=TracingSettings(endpoint="http://127.0.0.1:1"))
    async with open_telemetry(settings, metrics) as telemetry:
        telemetry.tracing.begin("POST /x", SpanKind.SERVER, NO_TRACE).end()
        while not metrics.registry.get_sample_value("headrace_loop_lag_seconds_count"):
            await asyncio.wait({asyncio.create_task(asyncio.to_thread(int))})
    lost = {"reason": UNREACHABLE}
    assert metrics.registry.get_sample_value("headrace_spans_dropped_total", lost) == 1


def test_bounded_labels() -> None:
    """The first values keep their names, in whatever order they come again; the rest is `other`."""
    labels = BoundedLabels(2)
    assert [labels.bounded(value) for value in "abcab"] == ["a", "b", "other", "a", "b"]

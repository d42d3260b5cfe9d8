"""Tracing that is switched on: spans of a process, to the collector, and to its end.

Opened by each process for itself, on its loop: nothing here survives a fork, and nothing is made
when a module is imported.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.sdk.trace.sampling import TraceIdRatioBased

from headrace.runtime.identity import Identity
from headrace.telemetry.clock import SpanClock
from headrace.telemetry.collector import Collector
from headrace.telemetry.collector_access import CollectorAccess
from headrace.telemetry.recorded_span import RecordedSpan, SpanPlace, SpanTaker
from headrace.telemetry.settings import TracingSettings
from headrace.telemetry.span_counts import SHUTDOWN, SpanCounts
from headrace.telemetry.span_encoding import encode_resource
from headrace.telemetry.span_exporter import NOT_IN_TIME, SpanExporter
from headrace.telemetry.span_queue import SpanQueue
from headrace.telemetry.spans import Attributes, SilentSpan, Span, SpanKind, Tracing
from headrace.telemetry.trace_context import TraceContext

_SAMPLED = "01"
_KNOWN_FLAGS = 0b11
"""Sampled, and that the trace's id is random; a span says no more of its parent's flags."""


class RecordingTracing:
    """Implements `Tracing`: as ParentBased(TraceIdRatioBased) of OpenTelemetry's SDK decides.

    What is not recorded costs a comparison: no span is made, and the context is handed on.
    """

    def __init__(self, queue: SpanQueue, sample_ratio: float) -> None:
        self.clock = SpanClock()
        self._taker = SpanTaker(self.clock, queue.put)
        self._bound = TraceIdRatioBased(sample_ratio).bound
        self._ids = RandomIdGenerator()

    def begin(
        self,
        name: str,
        kind: SpanKind,
        parent: TraceContext,
        attributes: Attributes | None = None,
        *,
        at_ns: int | None = None,
    ) -> Span:
        """Begin a span; recorded where the parent is, or where a new trace is chosen to be."""
        if not parent.traceparent:
            place = self._new_trace()
            if place.flags != _SAMPLED:
                return SilentSpan(place.context)
        elif parent.is_sampled:
            place = self._child(parent)
        else:
            return SilentSpan(parent)
        return RecordedSpan(self._taker, name, kind, place, attributes, at_ns)

    def _new_trace(self) -> SpanPlace:
        trace_id = self._ids.generate_trace_id()
        is_chosen = trace_id & TraceIdRatioBased.TRACE_ID_LIMIT < self._bound
        flags = _SAMPLED if is_chosen else "00"
        return SpanPlace(f"{trace_id:032x}", self._span_id(), "", flags, "")

    def _child(self, parent: TraceContext) -> SpanPlace:
        traceparent = parent.traceparent
        flags = int(traceparent[53:], 16) & _KNOWN_FLAGS
        return SpanPlace(
            traceparent[3:35],
            self._span_id(),
            traceparent[36:52],
            f"{flags:02x}",
            parent.tracestate,
        )

    def _span_id(self) -> str:
        return f"{self._ids.generate_span_id():016x}"


@asynccontextmanager
async def open_recording(
    settings: TracingSettings,
    service: str,
    identity: Identity,
    counts: SpanCounts | None = None,
) -> AsyncIterator[Tracing]:
    """What `open_tracing` is where the settings name an endpoint. Raises StartError."""
    counts = counts or SpanCounts()
    queue = SpanQueue(settings.max_waiting_spans, counts)
    collector = Collector(CollectorAccess(settings))
    resource = encode_resource(_resource(service, identity))
    exporter = SpanExporter(queue, collector, counts, resource, settings)
    sending = asyncio.create_task(exporter.run())
    try:
        yield RecordingTracing(queue, settings.sample_ratio)
    finally:
        queue.close()
        try:
            await _drain(sending, settings.export_timeout_seconds)
        finally:
            counts.dropped(SHUTDOWN, len(queue), NOT_IN_TIME)
            counts.close()
            await collector.close()


async def _drain(sending: asyncio.Task[None], seconds: float) -> None:
    """Wait for what is sent, so long; then end it."""
    try:
        async with asyncio.timeout(seconds):
            await sending
    except TimeoutError:
        return


def _resource(service: str, identity: Identity) -> Attributes:
    """Who makes the spans; OTEL_RESOURCE_ATTRIBUTES adds to it, as the SDK reads it."""
    version = identity.build.removeprefix("headrace ")
    own = {
        "service.name": f"headrace-{service}",
        "service.instance.id": identity.instance_id,
        "service.version": version,
        "telemetry.sdk.name": "headrace",
        "telemetry.sdk.language": "python",
        "telemetry.sdk.version": version,
    }
    return {
        key: value if isinstance(value, str | bool | int | float) else str(value)
        for key, value in Resource.create(own).attributes.items()
    }

"""A fake of the tracing seam: keeps every span, in the order in which they began."""

from dataclasses import dataclass, field
from typing import Any

from headrace.telemetry.clock import SpanClock
from headrace.telemetry.spans import Attributes, SpanKind
from headrace.telemetry.trace_context import TraceContext

_CLOCK = SpanClock()


@dataclass
class RecordedSpan:
    """What was said of one span; `parent_id` is empty for the first one of a trace."""

    name: str
    kind: SpanKind
    trace_id: str
    span_id: str
    parent_id: str
    start_ns: int
    state: str = ""
    attributes: dict[str, Any] = field(default_factory=dict)
    events: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    event_times_ns: list[int] = field(default_factory=list)
    error: tuple[str, str] | None = None
    end_ns: int | None = None
    is_recording: bool = True

    @property
    def context(self) -> TraceContext:
        return TraceContext(f"00-{self.trace_id}-{self.span_id}-01", self.state)

    def set(self, attributes: Attributes) -> None:
        if self.end_ns is None:
            self.attributes.update(attributes)

    def event(
        self, name: str, attributes: Attributes | None = None, *, at_ns: int | None = None
    ) -> None:
        if self.end_ns is None:
            self.events.append((name, dict(attributes or {})))
            self.event_times_ns.append(_CLOCK.now_ns() if at_ns is None else at_ns)

    def fail(self, error_type: str, message: str = "") -> None:
        if self.end_ns is None:
            self.error = (error_type, message)

    def end(self, at_ns: int | None = None) -> None:
        if self.end_ns is None:
            self.end_ns = _CLOCK.now_ns() if at_ns is None else at_ns


class SpanRecorder:
    """Records everything, sampled or not; ids count from 1."""

    def __init__(self) -> None:
        self.clock = _CLOCK
        self.spans: list[RecordedSpan] = []

    def begin(
        self,
        name: str,
        kind: SpanKind,
        parent: TraceContext,
        attributes: Attributes | None = None,
        *,
        at_ns: int | None = None,
    ) -> RecordedSpan:
        number = len(self.spans) + 1
        span = RecordedSpan(
            name,
            kind,
            trace_id=parent.trace_id or f"{number:032x}",
            span_id=f"{number:016x}",
            parent_id=parent.traceparent[36:52],
            start_ns=_CLOCK.now_ns() if at_ns is None else at_ns,
            state=parent.tracestate,
            attributes=dict(attributes or {}),
        )
        self.spans.append(span)
        return span

    def named(self, name: str) -> list[RecordedSpan]:
        """All spans of a name."""
        return [span for span in self.spans if span.name == name]

    def children(self, span: RecordedSpan) -> list[RecordedSpan]:
        """The spans whose parent it is."""
        return [child for child in self.spans if child.parent_id == span.span_id]

    @property
    def unended(self) -> list[str]:
        """Names of spans that nobody ended."""
        return [span.name for span in self.spans if span.end_ns is None]

"""A span that is kept: what was said of it, until it is encoded.

Plain attributes and no lock: a span is begun, told of and ended by one task at a time.
"""

from collections.abc import Callable
from dataclasses import dataclass

from headrace.telemetry.clock import SpanClock
from headrace.telemetry.names import ERROR_TYPE
from headrace.telemetry.spans import Attributes, AttributeValue, SpanKind
from headrace.telemetry.trace_context import TraceContext


@dataclass(frozen=True, slots=True)
class SpanPlace:
    """Where a span stands in which trace; ids in hexadecimal digits as in the header."""

    trace_id: str
    span_id: str
    parent_id: str
    """Empty for the first span of a trace."""
    flags: str
    state: str

    @property
    def context(self) -> TraceContext:
        """What a child is handed."""
        return TraceContext(f"00-{self.trace_id}-{self.span_id}-{self.flags}", self.state)


@dataclass(frozen=True, slots=True)
class SpanTaker:
    """What spans need of whoever keeps them."""

    clock: SpanClock
    take: "Callable[[RecordedSpan], None]"
    """Called once with each span that has ended; must neither block nor raise."""


@dataclass(frozen=True, slots=True)
class SpanEvent:
    """Something that happened during a span."""

    name: str
    at_ns: int
    attributes: Attributes


class RecordedSpan:
    """Implements `Span`."""

    __slots__ = (
        "_taker",
        "attributes",
        "end_ns",
        "error_message",
        "events",
        "has_failed",
        "kind",
        "name",
        "place",
        "start_ns",
    )

    def __init__(
        self,
        taker: SpanTaker,
        name: str,
        kind: SpanKind,
        place: SpanPlace,
        attributes: Attributes | None,
        start_ns: int | None,
    ) -> None:
        self._taker = taker
        self.name = name
        self.kind = kind
        self.place = place
        self.attributes: dict[str, AttributeValue] = {} if attributes is None else dict(attributes)
        self.start_ns = taker.clock.now_ns() if start_ns is None else start_ns
        self.end_ns: int | None = None
        self.events: list[SpanEvent] = []
        self.has_failed = False
        self.error_message = ""

    @property
    def is_recording(self) -> bool:
        """Until its end."""
        return self.end_ns is None

    @property
    def context(self) -> TraceContext:
        """The span as a parent."""
        return self.place.context

    def set(self, attributes: Attributes) -> None:
        """Add attributes; the newest value of a name holds."""
        if self.end_ns is None:
            self.attributes.update(attributes)

    def event(
        self, name: str, attributes: Attributes | None = None, *, at_ns: int | None = None
    ) -> None:
        """Something happened, now or at a time in nanoseconds since 1970."""
        if self.end_ns is None:
            happened_ns = self._taker.clock.now_ns() if at_ns is None else at_ns
            self.events.append(SpanEvent(name, happened_ns, attributes or {}))

    def fail(self, error_type: str, message: str = "") -> None:
        """It failed; the newest failure holds."""
        if self.end_ns is None:
            self.has_failed = True
            self.attributes[ERROR_TYPE] = error_type
            self.error_message = message

    def end(self, at_ns: int | None = None) -> None:
        """It is over; never before it began."""
        if self.end_ns is None:
            end_ns = self._taker.clock.now_ns() if at_ns is None else at_ns
            self.end_ns = max(end_ns, self.start_ns)
            self._taker.take(self)

"""The seam of tracing: what the services say of a request, whoever takes it.

Nothing here is made current: a request's context is handed on explicitly, in its messages, since
shared streams, generators and the engine's thread have no context of one request.
"""

from collections.abc import Mapping, Sequence
from enum import IntEnum
from typing import Protocol, TypeAlias

from headrace.telemetry.clock import SpanClock
from headrace.telemetry.trace_context import TraceContext

AttributeValue: TypeAlias = str | bool | int | float | Sequence[str]
Attributes: TypeAlias = Mapping[str, AttributeValue]


class SpanKind(IntEnum):
    """Values of OTLP's Span.SpanKind."""

    INTERNAL = 1
    SERVER = 2
    CLIENT = 3


class Span(Protocol):
    """A piece of work that has begun. Whoever began it ends it, once; later calls are ignored."""

    @property
    def is_recording(self) -> bool:
        """Whether anything is kept: ask before making attributes that cost something."""

    @property
    def context(self) -> TraceContext:
        """What is handed on to whoever works for this span; empty where there is no trace."""

    def set(self, attributes: Attributes) -> None:
        """Add attributes, names of `headrace.telemetry.names`."""

    def event(
        self, name: str, attributes: Attributes | None = None, *, at_ns: int | None = None
    ) -> None:
        """Something happened, now or at a time in nanoseconds since 1970."""

    def fail(self, error_type: str, message: str = "") -> None:
        """It failed: the status becomes an error, `error.type` says which."""

    def end(self, at_ns: int | None = None) -> None:
        """It is over, now or at a time in nanoseconds since 1970."""


class Tracing(Protocol):
    """Makes spans."""

    @property
    def clock(self) -> SpanClock:
        """What their times are told by: the only clock of spans in the process."""

    def begin(
        self,
        name: str,
        kind: SpanKind,
        parent: TraceContext,
        attributes: Attributes | None = None,
        *,
        at_ns: int | None = None,
    ) -> Span:
        """Begin a span, now or at a time in nanoseconds since 1970.

        An empty parent begins a trace, and decides whether it is recorded; else the parent has
        decided. A span that is not recorded hands its parent's context on.
        """


class SilentSpan:
    """A span that nobody takes."""

    __slots__ = ("context",)
    is_recording = False

    def __init__(self, context: TraceContext) -> None:
        self.context = context

    def set(self, attributes: Attributes) -> None:
        """Nothing is kept."""

    def event(
        self, name: str, attributes: Attributes | None = None, *, at_ns: int | None = None
    ) -> None:
        """Nothing is kept."""

    def fail(self, error_type: str, message: str = "") -> None:
        """Nothing is kept."""

    def end(self, at_ns: int | None = None) -> None:
        """Nothing is sent."""


class NoTracing:
    """Tracing that is switched off: the caller's context is handed on as it came."""

    def __init__(self) -> None:
        self.clock = SpanClock()

    def begin(
        self,
        name: str,
        kind: SpanKind,
        parent: TraceContext,
        attributes: Attributes | None = None,
        *,
        at_ns: int | None = None,
    ) -> Span:
        """A span that keeps nothing."""
        del name, kind, attributes, at_ns
        return SilentSpan(parent)

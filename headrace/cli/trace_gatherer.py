"""Spans of several processes, gathered until the tree of a request is complete.

A request's spans come from three processes, each when it has ended and the next export is due. A
tree is handed out when its beginning has ended and every call in it has shown its other side, or
when a short grace is over. What comes later is handed out as late. Memory is bounded: of too many
traces the oldest is given up, of too many spans of one the latest, and both are counted.
"""

from collections import OrderedDict, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field

from headrace.telemetry import names
from headrace.telemetry.span_tree import FinishedSpan
from headrace.telemetry.spans import SpanKind


@dataclass(frozen=True, slots=True)
class GatherLimits:
    """How many traces and spans of one are kept, and how long, in seconds.

    `grace_seconds`: of a tree whose beginning has ended, until the rest of it has come.
    `orphan_seconds`: of spans whose beginning does not come, since the trace's last one: a caller
    of its own may begin a trace elsewhere, and a long stream's beginning ends last.
    """

    traces: int = 1024
    spans: int = 256
    grace_seconds: float = 2.0
    orphan_seconds: float = 120.0


@dataclass(frozen=True, slots=True)
class SpanTree:
    """A span and its descendants, the first of `spans` being the one at the top.

    `is_late`: its parent was handed out before. `has_beginning`: the top is where the request came
    in. `lost`: spans of the trace that were not kept.
    """

    spans: list[FinishedSpan]
    is_late: bool = False
    has_beginning: bool = True
    lost: int = 0


@dataclass(slots=True)
class _Trace:
    """What waits of a trace, by span id, and the latest ids that were handed out.

    `arrived` and `last` are the caller's seconds.
    """

    spans: dict[str, FinishedSpan] = field(default_factory=dict)
    arrived: dict[str, float] = field(default_factory=dict)
    shown: OrderedDict[str, None] = field(default_factory=OrderedDict)
    last: float = 0.0
    lost: int = 0


class TraceGatherer:
    """Takes spans in any order, hands out trees. `now` is any clock's seconds, never going back."""

    def __init__(self, limits: GatherLimits | None = None) -> None:
        self._limits = limits or GatherLimits()
        self._traces: OrderedDict[str, _Trace] = OrderedDict()
        self._lost_traces = 0

    def add(self, span: FinishedSpan, now: float) -> None:
        """Keep a span; one that comes twice is kept once."""
        trace = self._traces.get(span.trace_id)
        if trace is None:
            trace = self._traces[span.trace_id] = _Trace()
            self._give_up_oldest()
        trace.last = now
        if span.span_id in trace.spans or span.span_id in trace.shown:
            return
        if len(trace.spans) >= self._limits.spans:
            trace.lost += 1
            return
        trace.spans[span.span_id] = span
        trace.arrived[span.span_id] = now

    def take_due(self, now: float) -> list[SpanTree]:
        """Trees that are complete, whose grace is over, or that are late."""
        taken = [tree for trace in self._traces.values() for tree in self._due(trace, now)]
        self._forget(now)
        return taken

    def take_rest(self) -> list[SpanTree]:
        """Whatever is left, at the end."""
        return [
            self._taken(trace, top) for trace in self._traces.values() for top in list(_tops(trace))
        ]

    def take_lost_traces(self) -> int:
        """How many traces were given up since the last call."""
        lost, self._lost_traces = self._lost_traces, 0
        return lost

    def _due(self, trace: _Trace, now: float) -> Iterator[SpanTree]:
        for top in list(_tops(trace)):
            if self._is_due(trace, top, now):
                yield self._taken(trace, top)

    def _is_due(self, trace: _Trace, top: FinishedSpan, now: float) -> bool:
        if _begins(top):
            waited = now - trace.arrived[top.span_id]
            return waited >= self._limits.grace_seconds or _is_complete(_descent(trace, top))
        return top.parent_id in trace.shown or now - trace.last >= self._limits.orphan_seconds

    def _taken(self, trace: _Trace, top: FinishedSpan) -> SpanTree:
        spans = _descent(trace, top)
        is_late = not _begins(top) and top.parent_id in trace.shown
        for span in spans:
            del trace.spans[span.span_id], trace.arrived[span.span_id]
            trace.shown[span.span_id] = None
        # A client may put as many requests into one trace as it likes.
        while len(trace.shown) > self._limits.spans:
            trace.shown.popitem(last=False)
        lost, trace.lost = trace.lost, 0
        return SpanTree(spans, is_late=is_late, has_beginning=_begins(top), lost=lost)

    def _give_up_oldest(self) -> None:
        if len(self._traces) > self._limits.traces:
            _, trace = self._traces.popitem(last=False)
            self._lost_traces += bool(trace.spans)

    def _forget(self, now: float) -> None:
        """Traces of which everything has been handed out are kept to know what is late."""
        over = [
            trace_id
            for trace_id, trace in self._traces.items()
            if not trace.spans and now - trace.last >= self._limits.orphan_seconds
        ]
        for trace_id in over:
            del self._traces[trace_id]


def _begins(span: FinishedSpan) -> bool:
    """Whether a request came in here: without a parent, or with a client's, over HTTP."""
    return not span.parent_id or (
        span.kind is SpanKind.SERVER and names.HTTP_METHOD in span.attributes
    )


def _tops(trace: _Trace) -> Iterator[FinishedSpan]:
    """Spans whose parents are not here; a request of its own is one below any other too."""
    for span in trace.spans.values():
        if span.parent_id not in trace.spans or _begins(span):
            yield span


def _descent(trace: _Trace, top: FinishedSpan) -> list[FinishedSpan]:
    """The span and its descendants, up to requests of their own."""
    children: dict[str, list[FinishedSpan]] = defaultdict(list)
    for span in trace.spans.values():
        if not _begins(span):
            children[span.parent_id].append(span)
    found, seen = [top], {top.span_id}
    for span in found:
        below = [child for child in children[span.span_id] if child.span_id not in seen]
        seen.update(child.span_id for child in below)
        found += below
    return found


def _is_complete(spans: list[FinishedSpan]) -> bool:
    """Whether every call in it has shown its other side."""
    answered = {span.parent_id for span in spans if span.kind is SpanKind.SERVER}
    return all(
        span.span_id in answered
        for span in spans
        if span.kind is SpanKind.CLIENT and names.RPC_METHOD in span.attributes
    )

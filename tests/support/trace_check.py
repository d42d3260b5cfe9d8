"""Compares a trace with what is expected of it, and tells every difference.

An expectation is a tree of rows. Attributes that no row names may be there if the table of names
knows them; spans that no row names may not. Children of a row come in its order.
"""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from headrace.telemetry import names
from headrace.telemetry.spans import SpanKind
from tests.support.seen_spans import UNSET, SeenSpan

SLACK_NS = 1_000_000
"""How far clocks of two processes may be apart."""
_KNOWN_NAMES = frozenset(value for key, value in vars(names).items() if key.isupper())


@dataclass(frozen=True)
class NoLess:
    """A number that is not below the bound."""

    bound: float

    def __eq__(self, other: object) -> bool:
        is_number = isinstance(other, int | float) and not isinstance(other, bool)
        return is_number and other >= self.bound

    __hash__ = None  # type: ignore[assignment]


@dataclass(frozen=True)
class Text:
    """A text of which the whole matches the pattern."""

    pattern: str

    def __eq__(self, other: object) -> bool:
        return isinstance(other, str) and re.fullmatch(self.pattern, other) is not None

    __hash__ = None  # type: ignore[assignment]


@dataclass(frozen=True)
class Row:
    """What one span must be, and the spans below it."""

    name: str
    kind: SpanKind
    service: str
    attributes: Mapping[str, Any] = field(default_factory=dict)
    """By name: the exact value, or what equals every value that is right."""
    absent: Sequence[str] = (names.ERROR_TYPE,)
    """Attributes that it must not have."""
    status: str = UNSET
    events: Sequence[str] = ()
    children: Sequence["Row"] = ()
    outlives_parent: bool = False
    """The span of a peer that hears only afterwards that its caller has ended."""
    is_optional: bool = False
    """The span of a peer that may never have heard of its caller."""

    @property
    def size(self) -> int:
        """Spans from here on downwards that must be there."""
        return 0 if self.is_optional else 1 + sum(child.size for child in self.children)

    @property
    def most(self) -> int:
        """Spans from here on downwards that may be there."""
        return 1 + sum(child.most for child in self.children)


def differences(spans: Sequence[SeenSpan], trees: Sequence[Row], parent_id: str = "") -> list[str]:
    """How the trace differs from the trees below `parent_id`; empty where it is what it must be."""
    return [*_identity_faults(spans), *_tree_faults(spans, trees, parent_id)]


def _identity_faults(spans: Sequence[SeenSpan]) -> Iterator[str]:
    if len({span.trace_id for span in spans}) > 1:
        yield f"several trace ids: {sorted({span.trace_id for span in spans})}"
    for span_id, count in Counter(span.span_id for span in spans).items():
        if count > 1:
            named = sorted(span.name for span in spans if span.span_id == span_id)
            yield f"{count} spans of one id: {named}"


def _tree_faults(spans: Sequence[SeenSpan], trees: Sequence[Row], parent_id: str) -> Iterator[str]:
    below: dict[str, list[SeenSpan]] = {}
    for span in sorted(spans, key=lambda span: (span.start_ns, span.end_ns)):
        below.setdefault(span.parent_id, []).append(span)
    reached: set[str] = set()
    yield from _children_faults("", below.get(parent_id, []), trees, below, reached)
    for span in spans:
        if span.span_id not in reached:
            yield f"no row expects {span.service}: {span.name} (parent {span.parent_id or 'none'})"


def _children_faults(
    path: str,
    found: Sequence[SeenSpan],
    rows: Sequence[Row],
    below: Mapping[str, Sequence[SeenSpan]],
    reached: set[str],
) -> Iterator[str]:
    left = list(found)
    last_start = 0
    for row in rows:
        where = f"{path}/{row.service}: {row.name}"
        span = next((each for each in left if (each.name, each.kind) == (row.name, row.kind)), None)
        if span is None and row.is_optional:
            continue
        if span is None:
            others = [f"{each.name} {each.kind.name}" for each in found]
            yield f"{where}: missing {row.kind.name}; its parent has {others}"
            continue
        left.remove(span)
        reached.add(span.span_id)
        if span.start_ns < last_start - SLACK_NS:
            yield f"{where}: began before the span that goes before it"
        last_start = span.start_ns
        yield from (f"{where}: {fault}" for fault in _span_faults(span, row))
        children = below.get(span.span_id, ())
        yield from (f"{where}: {fault}" for fault in _time_faults(span, row, children))
        yield from _children_faults(where, children, row.children, below, reached)


def _span_faults(span: SeenSpan, row: Row) -> Iterator[str]:
    if span.service != row.service:
        yield f"comes from {span.service}"
    if span.status != row.status:
        yield f"status is {span.status}, not {row.status}"
    for name, expected in row.attributes.items():
        if name not in span.attributes:
            yield f"lacks {name}, {expected!r}"
        elif not _agrees(expected, span.attributes[name]):
            yield f"{name} is {span.attributes[name]!r}, not {expected!r}"
    for name in row.absent:
        if name in span.attributes:
            yield f"has {name}, {span.attributes[name]!r}"
    for name in span.attributes.keys() - _KNOWN_NAMES:
        yield f"has an attribute of no table: {name}"
    happened = [name for name, _ in span.events]
    if happened != list(row.events):
        yield f"events are {happened}, not {list(row.events)}"


def _agrees(expected: Any, value: Any) -> bool:
    """Equal, and of the same type where the value is no number: True is not 1."""
    if isinstance(expected, bool) or isinstance(value, bool):
        return expected is value
    return bool(expected == value)


def _time_faults(span: SeenSpan, row: Row, children: Sequence[SeenSpan]) -> Iterator[str]:
    if span.end_ns < span.start_ns:
        yield f"ends {span.start_ns - span.end_ns} ns before it begins"
    for name, at_ns in span.events:
        if not span.start_ns <= at_ns <= span.end_ns:
            yield f"the event {name} lies outside"
    outlasting = {each.name for each in row.children if each.outlives_parent}
    for child in children:
        before = span.start_ns - child.start_ns
        if before > SLACK_NS:
            yield f"{child.name} begins {before} ns before it"
        after = child.end_ns - span.end_ns
        if after > SLACK_NS and child.name not in outlasting:
            yield f"{child.name} ends {after} ns after it"
    yield from _phase_faults(span, [each for each in children if each.name in PHASES])


PHASES = (names.QUEUE_PHASE, names.PREFILL_PHASE, names.DECODE_PHASE)


def _phase_faults(span: SeenSpan, phases: Sequence[SeenSpan]) -> Iterator[str]:
    """Phases follow one another without a gap; together they are no longer than the whole."""
    ordered = sorted(phases, key=lambda phase: PHASES.index(phase.name))
    for earlier, later in pairwise(ordered):
        if earlier.end_ns != later.start_ns:
            gap = later.start_ns - earlier.end_ns
            yield f"{gap} ns between {earlier.name} and {later.name}"
    total = sum(phase.end_ns - phase.start_ns for phase in ordered)
    if total > span.end_ns - span.start_ns + SLACK_NS:
        yield f"its phases take {total} ns, it {span.end_ns - span.start_ns} ns"


def first_chunk_faults(spans: Sequence[SeenSpan]) -> list[str]:
    """The first chunk reaches the client after queue and prefill of the attempt that made it.

    A worker that was killed told nothing of its decoding: then there is nothing to compare with.
    """
    faults = []
    for chat in spans:
        seconds = chat.attributes.get(names.RESPONSE_TIME_TO_FIRST_CHUNK)
        if seconds is None:
            continue
        attempts = [s.attributes.get(names.ATTEMPT) for s in spans]
        has_first = 2 not in attempts or len([s for s in spans if s.name == names.DECODE_PHASE]) > 1
        until_decode = [s.start_ns for s in spans if has_first and s.name == names.DECODE_PHASE]
        if until_decode and chat.start_ns + seconds * 1e9 < min(until_decode) - SLACK_NS:
            faults.append(f"{chat.name}: the first chunk after {seconds} s, before any decoding")
        if seconds > chat.seconds:
            faults.append(f"{chat.name}: the first chunk after {seconds} s of {chat.seconds} s")
    return faults

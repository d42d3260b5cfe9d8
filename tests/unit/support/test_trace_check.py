"""The checker of traces finds nothing in a right trace, and every kind of fault in a wrong one."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from headrace.telemetry import names
from headrace.telemetry.spans import SpanKind
from tests.support.seen_spans import ERROR, UNSET, SeenSpan
from tests.support.trace_check import NoLess, Row, Text, differences, first_chunk_faults

_MS = 1_000_000
_CALLER = "c" * 16


def _span(number: int, parent: int, name: str, start_ms: float, end_ms: float) -> SeenSpan:
    return SeenSpan(
        "service",
        name,
        SpanKind.INTERNAL,
        "a" * 32,
        f"{number:016x}",
        f"{parent:016x}" if parent else _CALLER,
        int(start_ms * _MS),
        int(end_ms * _MS),
        UNSET,
        {names.OUTPUT_TOKENS: 3, names.REQUEST_ID: "req_1", names.REQUEST_STREAM: True},
        (),
        {},
    )


def _right() -> list[SeenSpan]:
    return [
        replace(_span(1, 0, "root", 0, 100), events=((names.FIRST_TOKEN_EVENT, 50 * _MS),)),
        _span(2, 1, names.QUEUE_PHASE, 10, 20),
        _span(3, 1, names.PREFILL_PHASE, 20, 40),
        _span(4, 1, names.DECODE_PHASE, 40, 90),
    ]


def _row(name: str, *children: Row, events: tuple[str, ...] = ()) -> Row:
    attributes = {
        names.OUTPUT_TOKENS: NoLess(3),
        names.REQUEST_ID: Text(r"req_\d"),
        names.REQUEST_STREAM: True,
    }
    return Row(name, SpanKind.INTERNAL, "service", attributes, events=events, children=children)


_TREE = _row(
    "root",
    _row(names.QUEUE_PHASE),
    _row(names.PREFILL_PHASE),
    _row(names.DECODE_PHASE),
    events=(names.FIRST_TOKEN_EVENT,),
)


def test_right_trace() -> None:
    """A trace that is what it must be has no differences."""
    assert differences(_right(), [_TREE], _CALLER) == []


def test_size() -> None:
    """A tree knows how many spans it has."""
    assert _TREE.size == 4


def _changed(index: int, **changes: object) -> Callable[[list[SeenSpan]], None]:
    def change(spans: list[SeenSpan]) -> None:
        spans[index] = replace(spans[index], **changes)  # type: ignore[arg-type]

    return change


def _with_attribute(index: int, name: str, value: object) -> Callable[[list[SeenSpan]], None]:
    def change(spans: list[SeenSpan]) -> None:
        attributes = {**spans[index].attributes, name: value}
        spans[index] = replace(spans[index], attributes=attributes)

    return change


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda spans: spans.pop(), "missing INTERNAL"),
        (lambda spans: spans.append(spans[3]), "2 spans of one id"),
        (lambda spans: spans.append(_span(9, 8, "lost", 1, 2)), "no row expects service: lost"),
        (lambda spans: spans.append(_span(9, 1, "more", 1, 2)), "no row expects service: more"),
        (_changed(3, parent_id="9" * 16), "missing INTERNAL"),
        (_changed(0, parent_id=""), "missing INTERNAL"),
        (_changed(3, trace_id="b" * 32), "several trace ids"),
        (_changed(3, kind=SpanKind.SERVER), "missing INTERNAL"),
        (_changed(3, service="other"), "comes from other"),
        (_changed(3, status=ERROR), "status is error, not unset"),
        (_changed(3, attributes={}), f"lacks {names.OUTPUT_TOKENS}"),
        (_changed(3, events=(("first_token", 50 * _MS),)), "events are ['first_token'], not []"),
        (_changed(0, events=()), "events are [], not ['first_token']"),
        (_changed(0, events=(("first_token", 101 * _MS),)), "first_token lies outside"),
        (_with_attribute(3, names.OUTPUT_TOKENS, 2), "is 2, not NoLess(bound=3)"),
        (_with_attribute(3, names.REQUEST_ID, "req_12"), "is 'req_12'"),
        (_with_attribute(3, names.REQUEST_STREAM, 1), "is 1, not True"),
        (_with_attribute(3, names.ERROR_TYPE, "x"), "has error.type, 'x'"),
        (_with_attribute(3, "made.up", 1), "an attribute of no table: made.up"),
        (_changed(3, end_ns=102 * _MS), "decode ends 2000000 ns after it"),
        (_changed(1, start_ns=-2 * _MS), "queue begins 2000000 ns before it"),
        (_changed(3, start_ns=41 * _MS), "1000000 ns between prefill and decode"),
        (_changed(0, end_ns=-1), "ends 1 ns before it begins"),
        (_changed(2, start_ns=5 * _MS), "began before the span that goes before it"),
    ],
)
def test_wrong_traces(change: Callable[[list[SeenSpan]], None], told: str) -> None:
    """A trace with one fault has a difference that tells it."""
    spans = _right()
    change(spans)
    assert told in "\n".join(differences(spans, [_TREE], _CALLER))


def test_long_phases() -> None:
    """Phases that take longer together than what they are phases of are told."""
    spans = _right()
    spans[0] = replace(spans[0], end_ns=60 * _MS)
    assert "its phases take 80000000 ns" in "\n".join(differences(spans, [_TREE], _CALLER))


def test_slack() -> None:
    """Clocks of two processes may be a millisecond apart."""
    spans = _right()
    spans[3] = replace(spans[3], end_ns=101 * _MS)
    assert differences(spans, [_TREE], _CALLER) == []


def test_outliving_spans() -> None:
    """The span of a peer that hears of the end afterwards may end after its parent."""
    spans = _right()
    spans[3] = replace(spans[3], end_ns=120 * _MS)
    rows = [*_TREE.children[:2], replace(_TREE.children[2], outlives_parent=True)]
    faults = differences(spans, [replace(_TREE, children=rows)], _CALLER)
    assert faults == ["/service: root: its phases take 110000000 ns, it 100000000 ns"]


def test_optional_spans() -> None:
    """The span of a peer that may not have heard of its caller may be missing."""
    rows = [*_TREE.children[:2], replace(_TREE.children[2], is_optional=True)]
    tree = replace(_TREE, children=rows)
    assert (tree.size, tree.most) == (3, 4)
    assert differences(_right()[:3], [tree], _CALLER) == []
    assert differences(_right(), [tree], _CALLER) == []


@pytest.mark.parametrize(("seconds", "faults"), [(0.05, 0), (0.02, 1), (0.11, 1)])
def test_first_chunk(seconds: float, faults: int) -> None:
    """The first chunk comes after the worker's first tokens, and before the end."""
    spans = _right()
    _with_attribute(0, names.RESPONSE_TIME_TO_FIRST_CHUNK, seconds)(spans)
    assert len(first_chunk_faults(spans)) == faults

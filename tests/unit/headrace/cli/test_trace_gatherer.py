import random

from headrace.cli.trace_gatherer import GatherLimits, TraceGatherer
from headrace.telemetry import names
from headrace.telemetry.spans import SpanKind
from tests.support.finished_spans import finished_span, request_spans

LIMITS = GatherLimits(traces=2, spans=10, grace_seconds=2, orphan_seconds=60)


def test_a_tree_is_complete_when_each_call_has_shown_its_other_side() -> None:
    """The beginning alone is not enough; with the last service's spans the tree comes at once."""
    gatherer, spans = TraceGatherer(LIMITS), request_spans()
    worker = [spans.pop(name) for name in ("queue", "prefill", "decode", "served")]
    for span in spans.values():
        gatherer.add(span, 0)
    assert gatherer.take_due(1.9) == []
    for span in worker:
        gatherer.add(span, 1.9)

    [tree] = gatherer.take_due(1.9)
    assert tree.spans[0].span_id == "http"
    assert {span.span_id for span in tree.spans} == {*spans, *(span.span_id for span in worker)}
    assert (tree.is_late, tree.has_beginning, tree.lost) == (False, True, 0)
    assert gatherer.take_due(100) == []


def test_spans_may_come_in_any_order() -> None:
    """Whatever the order, one tree with all nine spans is handed out, and nothing else."""
    for seed in range(20):
        gatherer, spans = TraceGatherer(LIMITS), list(request_spans().values())
        random.Random(seed).shuffle(spans)
        for span in spans:
            gatherer.add(span, 0)
        trees = gatherer.take_due(0) + gatherer.take_due(2)
        assert [len(tree.spans) for tree in trees] == [9]


def test_after_the_grace_a_tree_comes_as_it_is_and_the_rest_as_late() -> None:
    """A call whose other side is gone does not hold the tree back; what comes later is told."""
    gatherer, spans = TraceGatherer(LIMITS), request_spans()
    late = [spans.pop(name) for name in ("served", "queue", "prefill", "decode")]
    for span in spans.values():
        gatherer.add(span, 0)
    [tree] = gatherer.take_due(2)
    assert len(tree.spans) == 5
    for span in late:
        gatherer.add(span, 3)

    [rest] = gatherer.take_due(3)
    assert rest.is_late
    assert [span.span_id for span in rest.spans] == ["served", "queue", "prefill", "decode"]


def test_a_clients_own_trace_may_hold_several_requests() -> None:
    """Requests below one parent elsewhere are trees of their own, each when it has ended."""
    gatherer = TraceGatherer(GatherLimits())
    for span in request_spans(parent_id="elsewhere").values():
        gatherer.add(span, 0)
    [first] = gatherer.take_due(0)
    attributes = {names.HTTP_METHOD: "POST"}
    other = finished_span("h2", "http", kind=SpanKind.SERVER, attributes=attributes)
    gatherer.add(other, 1)

    [second] = gatherer.take_due(1)
    assert first.has_beginning
    assert second.spans == [other]
    assert not second.is_late


def test_a_clients_trace_may_be_long() -> None:
    """However many requests were shown of it, the next one is, and none is kept for good."""
    gatherer = TraceGatherer(LIMITS)
    for number in range(100):
        attributes = {names.HTTP_METHOD: "POST"}
        span = finished_span(f"s{number}", "p", kind=SpanKind.SERVER, attributes=attributes)
        gatherer.add(span, number)
        assert [tree.spans for tree in gatherer.take_due(number)] == [[span]]

    gatherer.add(finished_span("late", "s99"), 100)
    assert [tree.is_late for tree in gatherer.take_due(100)] == [True]
    gatherer.add(finished_span("too late", "s1"), 100)
    assert gatherer.take_due(100) == []


def test_a_part_without_beginning_waits_long_and_is_not_lost() -> None:
    """A tokenizer's span of a stream that still runs waits; at the end it is handed out."""
    gatherer, rendered = TraceGatherer(LIMITS), request_spans()["rendered"]
    gatherer.add(rendered, 0)
    assert gatherer.take_due(59) == []

    [left] = gatherer.take_rest()
    assert left.spans == [rendered]
    assert not left.has_beginning
    gatherer.add(finished_span("x", "elsewhere"), 59)
    [silent] = gatherer.take_due(119)
    assert not silent.has_beginning


def test_memory_is_bounded_and_says_what_it_cost() -> None:
    """Of too many traces the oldest is given up, of too many spans the latest; both counted."""
    gatherer = TraceGatherer(LIMITS)
    for number in range(12):
        gatherer.add(finished_span(f"s{number}", "elsewhere", trace_id="t1"), 0)
    assert [tree.lost for tree in gatherer.take_rest()] == [2, *[0] * 9]

    for trace_id in ("t2", "t3", "t4"):
        gatherer.add(finished_span("s", "elsewhere", trace_id=trace_id), 0)
    assert gatherer.take_lost_traces() == 1
    assert gatherer.take_lost_traces() == 0
    assert [tree.spans[0].trace_id for tree in gatherer.take_rest()] == ["t3", "t4"]


def test_a_trace_that_was_shown_is_forgotten_in_time() -> None:
    """Ids are kept to know late spans for as long as parts wait, not for good."""
    gatherer = TraceGatherer(LIMITS)
    gatherer.add(finished_span("a"), 0)
    assert len(gatherer.take_due(0)) == 1
    gatherer.take_due(60)
    gatherer.add(finished_span("b", "a"), 60)

    assert gatherer.take_due(60) == []


def test_a_span_that_is_sent_twice_is_shown_once() -> None:
    """An exporter tries again after a lost answer."""
    gatherer, span = TraceGatherer(LIMITS), finished_span("a")
    gatherer.add(span, 0)
    gatherer.add(span, 0)
    assert [tree.spans for tree in gatherer.take_due(0)] == [[span]]
    gatherer.add(span, 1)
    assert gatherer.take_due(1) == []


def test_parents_in_a_circle_do_no_harm() -> None:
    """Spans that name one another as parents belong to no tree."""
    gatherer = TraceGatherer(LIMITS)
    gatherer.add(finished_span("a", "b"), 0)
    gatherer.add(finished_span("b", "a"), 0)
    assert gatherer.take_due(100) == []
    assert gatherer.take_rest() == []

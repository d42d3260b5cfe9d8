"""A span that is kept, and its end."""

import pytest

from headrace.telemetry.clock import SpanClock
from headrace.telemetry.recorded_span import RecordedSpan, SpanPlace, SpanTaker
from headrace.telemetry.spans import SpanKind
from headrace.telemetry.trace_context import TraceContext

PLACE = SpanPlace("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331", "", "01", "a=b")


def begun(taken: list[RecordedSpan], start_ns: int | None = None) -> RecordedSpan:
    taker = SpanTaker(SpanClock(), taken.append)
    return RecordedSpan(taker, "chat", SpanKind.CLIENT, PLACE, {"a": 1}, start_ns)


def test_context() -> None:
    """Whoever works for it is handed its ids, its flags and the trace's state."""
    traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    assert begun([]).context == TraceContext(traceparent, "a=b")


def test_ends_once() -> None:
    """It is taken at its first end; what is said later changes nothing."""
    taken: list[RecordedSpan] = []
    span = begun(taken, 1_000)
    span.set({"a": 2, "b": 3})
    assert span.is_recording
    span.end(2_000)
    span.set({"a": 9})
    span.event("late")
    span.fail("late")
    span.end(3_000)

    assert taken == [span]
    assert not span.is_recording
    assert (span.attributes, span.events, span.has_failed) == ({"a": 2, "b": 3}, [], False)
    assert span.end_ns == 2_000


def test_newest_failure_holds() -> None:
    """Of two failures the later one is told."""
    span = begun([])
    span.fail("first", "one")
    span.fail("second", "two")
    assert (span.attributes["error.type"], span.error_message) == ("second", "two")


def test_no_end_before_the_beginning() -> None:
    """Times of two clocks may contradict; a span is never shorter than nothing."""
    span = begun([], 5_000)
    span.end(4_000)
    assert span.end_ns == 5_000


def test_times_are_now() -> None:
    """Without times of its own it is now, also for events."""
    clock = SpanClock()
    before = clock.now_ns()
    span = begun([])
    span.event("something")
    span.end()
    times = [span.start_ns, span.events[0].at_ns, span.end_ns]
    assert times == sorted(times, key=lambda ns: ns or 0)
    # Two clocks of a process differ by what they were made apart, not by seconds.
    assert span.start_ns == pytest.approx(before, abs=1e9)


def test_callers_attributes_stay_theirs() -> None:
    """A mapping that begins a span is copied."""
    own: dict[str, str | bool | int | float] = {"a": 1}
    taker = SpanTaker(SpanClock(), lambda _: None)
    span = RecordedSpan(taker, "chat", SpanKind.CLIENT, PLACE, own, None)
    span.set({"b": 2})
    assert own == {"a": 1}

"""Losses are counted always, and told once when they begin and once when they end."""

from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from structlog.testing import capture_logs

from headrace.telemetry.span_counts import (
    LOSS_REASONS,
    QUEUE_FULL,
    QUIET_SECONDS,
    UNREACHABLE,
    SpanCounts,
)


class Clock:
    """A clock that stands."""

    def __init__(self) -> None:
        self.seconds = 100.0

    def __call__(self) -> float:
        return self.seconds


def counted(registry: CollectorRegistry, reason: str) -> float | None:
    return registry.get_sample_value("headrace_spans_dropped_total", {"reason": reason})


def test_counts_by_reason() -> None:
    """Each reason has a series from the start; what was sent has its own."""
    registry = CollectorRegistry()
    counts = SpanCounts(registry)
    before = [counted(registry, reason) for reason in LOSS_REASONS]
    counts.dropped(QUEUE_FULL, 3)
    counts.dropped(UNREACHABLE, 64, "refused")
    counts.exported(5)

    assert before == [0] * len(LOSS_REASONS)
    assert counted(registry, QUEUE_FULL) == 3
    assert counted(registry, UNREACHABLE) == 64
    assert registry.get_sample_value("headrace_spans_exported_total") == 5
    assert (counts.num_exported, dict(counts.num_dropped)) == (5, {QUEUE_FULL: 3, UNREACHABLE: 64})


def test_unknown_reason_is_a_bug() -> None:
    """Labels are bounded: another reason than those of the table raises."""
    with pytest.raises(KeyError):
        SpanCounts().dropped("weather", 1)


def test_losses_are_told_twice() -> None:
    """However much is lost: one line at its beginning, and one when spans are sent again."""
    clock = Clock()
    counts = SpanCounts(now=clock)
    with capture_logs() as lines:
        counts.dropped(UNREACHABLE, 64, "connection refused")
        for _ in range(1000):
            counts.dropped(QUEUE_FULL, 1, "4096 spans wait")
        clock.seconds += QUIET_SECONDS
        counts.exported(64)

    began: dict[str, Any] = {"reason": UNREACHABLE, "problem": "connection refused"}
    ended: dict[str, Any] = {"dropped": 1064, UNREACHABLE: 64, QUEUE_FULL: 1000}
    assert lines == [
        {"event": "span_losses_began", "log_level": "warning", **began},
        {"event": "span_losses_ended", "log_level": "warning", **ended},
    ]


def test_losses_that_come_and_go() -> None:
    """Batches that are sent between losses end nothing: a full queue fills no log."""
    clock = Clock()
    counts = SpanCounts(now=clock)
    with capture_logs() as lines:
        for _ in range(1000):
            counts.dropped(QUEUE_FULL, 1)
            clock.seconds += QUIET_SECONDS / 2
            counts.exported(64)
    assert [line["event"] for line in lines] == ["span_losses_began"]


def test_end_of_the_service() -> None:
    """At the end what was lost and not yet told is told; nothing where nothing was lost."""
    counts = SpanCounts()
    with capture_logs() as lines:
        counts.close()
        counts.dropped(UNREACHABLE, 0)
        counts.dropped(UNREACHABLE, 2)
        counts.close()
        counts.close()
    assert [(line["event"], line.get("dropped")) for line in lines] == [
        ("span_losses_began", None),
        ("span_losses_ended", 2),
    ]

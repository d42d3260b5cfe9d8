"""How many spans were sent, and how many were lost for what; told once when losses begin and end.

What is lost is counted always and logged twice: a collector that is away for a night leaves two
lines, however many spans there were.
"""

import time
from collections import Counter as Tally
from collections.abc import Callable
from typing import Final

import structlog
from prometheus_client import CollectorRegistry, Counter

QUEUE_FULL: Final = "queue_full"
"""As many waited as may: the collector takes them more slowly than they are made, or not."""
UNREACHABLE: Final = "unreachable"
TIMEOUT: Final = "timeout"
REFUSED: Final = "refused"
"""The collector refused a batch as a whole, and did not say that it may come again."""
REJECTED: Final = "rejected"
"""The collector took a batch, but not these of its spans."""
SHUTDOWN: Final = "shutdown"
"""The service ended before they were sent."""
LOSS_REASONS: Final = (QUEUE_FULL, UNREACHABLE, TIMEOUT, REFUSED, REJECTED, SHUTDOWN)

QUIET_SECONDS: Final = 10.0
"""Losses are over when spans are sent and none was lost for as long."""
_log = structlog.get_logger(__name__)


class SpanCounts:
    """A service's counts, since its start."""

    def __init__(
        self,
        registry: CollectorRegistry | None = None,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        """Without a registry nobody but the log is told."""
        registry = registry or CollectorRegistry()
        self._now = now
        self._exported = Counter(
            "headrace_spans_exported", "Spans that the collector took.", registry=registry
        )
        dropped = Counter(
            "headrace_spans_dropped",
            "Spans that were lost, by reason.",
            ("reason",),
            registry=registry,
        )
        self._dropped = {reason: dropped.labels(reason) for reason in LOSS_REASONS}
        self.num_exported = 0
        self.num_dropped: Tally[str] = Tally()
        self._lost: Tally[str] = Tally()
        self._lost_last = 0.0

    def exported(self, spans: int) -> None:
        """The collector has taken so many."""
        self.num_exported += spans
        self._exported.inc(spans)
        if self._lost and self._now() - self._lost_last >= QUIET_SECONDS:
            self.close()

    def dropped(self, reason: str, spans: int, problem: str = "") -> None:
        """So many are lost, for one of `LOSS_REASONS`; `problem` in words, for the log."""
        if not spans:
            return
        if not self._lost:
            _log.warning("span_losses_began", reason=reason, problem=problem)
        self.num_dropped[reason] += spans
        self._dropped[reason].inc(spans)
        self._lost[reason] += spans
        self._lost_last = self._now()

    def close(self) -> None:
        """Nothing more is lost for now: say what was, if anything."""
        if self._lost:
            _log.warning("span_losses_ended", dropped=self._lost.total(), **self._lost)
            self._lost.clear()

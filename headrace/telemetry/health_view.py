"""What the health port answers: judged anew at each question from what the service told last."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from headrace.telemetry.health_page import Figures, HealthPage, Phase, Words

LIVENESS = "liveness"
"""The name under which gRPC health tells whether the process should live."""
STARTUP = "startup"
"""The name under which it tells whether the start is over."""


@dataclass(frozen=True, slots=True)
class HealthRules:
    """What the answers depend on besides the page.

    `names` are the gRPC services that are as ready as the whole; times in seconds.
    """

    stuck_seconds: float
    start_seconds: float
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Verdict:
    """One answer: whether it is a yes, in one word, and in a sentence where there is more to it."""

    is_good: bool
    status: str
    detail: str = ""


class HealthView:
    """The answers of one service; `clock` gives nanoseconds as the page has them."""

    def __init__(
        self, page: HealthPage, rules: HealthRules, clock: Callable[[], int] = time.monotonic_ns
    ) -> None:
        self._page = page
        self._rules = rules
        self._clock = clock
        # What was read last stands in for a record that is being written.
        self._words = Words(Phase.STARTING, clock(), "starting")
        self._beat_ns = 0
        self._figures: Figures | None = None

    def health(self) -> Verdict:
        """Whether the process should live: the loop runs, or the start is not too long."""
        words = self._read_words()
        if words.phase is Phase.STARTING:
            return self._start(words)
        age = self._beat_age()
        limit = self._rules.stuck_seconds
        if age > limit:
            detail = f"the event loop has not run for {age:.1f} s; the limit is {limit:g} s"
            return Verdict(is_good=False, status="stuck", detail=detail)
        return Verdict(is_good=True, status="ok")

    def ready(self) -> Verdict:
        """Whether new work is welcome: the service says so, and its loop runs."""
        health = self.health()
        words = self._words
        if not health.is_good:
            return health
        if words.phase is Phase.SERVING and not words.problem:
            return Verdict(is_good=True, status="ready")
        status = "not ready" if words.phase is Phase.SERVING else words.phase.value
        return Verdict(is_good=False, status=status, detail=words.problem)

    def startup(self) -> Verdict:
        """Whether the start is over."""
        words = self._read_words()
        if words.phase is Phase.STARTING:
            detail = f"for {self._seconds_since(words.since_ns):.0f} s"
            return Verdict(is_good=False, status=words.phase.value, detail=detail)
        return Verdict(is_good=True, status="started")

    def grpc_health(self, name: str) -> bool | None:
        """Whether the service of that name is SERVING; None for a name that nobody knows."""
        if name == LIVENESS:
            return self.health().is_good
        if name == STARTUP:
            return self.startup().is_good
        if name == "" or name in self._rules.names:
            return self.ready().is_good
        return None

    def metrics(self) -> bytes:
        """The latest metrics, and how old they and the heartbeat are at this moment."""
        self._figures = self._page.figures() or self._figures
        own = [
            _gauge(
                "headrace_loop_heartbeat_age_seconds",
                "Time since the event loop ran last.",
                self._beat_age(),
            )
        ]
        if self._figures is None:
            return b"".join(own)
        age = self._seconds_since(self._figures.told_at_ns)
        own.append(_gauge("headrace_metrics_age_seconds", "Age of all other metrics here.", age))
        cut = self._figures.cut_bytes
        own.append(_gauge("headrace_metrics_cut_bytes", "Metrics that had no room here.", cut))
        return self._figures.text + b"".join(own)

    def _start(self, words: Words) -> Verdict:
        age, limit = self._seconds_since(words.since_ns), self._rules.start_seconds
        if age > limit:
            detail = f"starting for {age:.0f} s; the limit is {limit:g} s"
            return Verdict(is_good=False, status="stuck", detail=detail)
        return Verdict(is_good=True, status=words.phase.value)

    def _read_words(self) -> Words:
        self._words = self._page.words() or self._words
        return self._words

    def _beat_age(self) -> float:
        """Seconds since the last heartbeat; entering a phase is one too, being told by the loop."""
        self._beat_ns = self._page.beat_ns() or self._beat_ns
        return self._seconds_since(max(self._beat_ns, self._words.since_ns))

    def _seconds_since(self, then_ns: int) -> float:
        # The service may have told it after the clock was read.
        return max(0, self._clock() - then_ns) / 1e9


def _gauge(name: str, text: str, value: float) -> bytes:
    shown = f"{value:.6f}" if isinstance(value, float) else str(value)
    return f"# HELP {name} {text}\n# TYPE {name} gauge\n{name} {shown}\n".encode()

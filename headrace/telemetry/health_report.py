"""What a service says of its own health, on its event loop."""

import time
from collections.abc import Callable

from headrace.telemetry.health_page import Phase, Words


def no_problem() -> str:
    """Ready, whenever it is asked."""
    return ""


class HealthReport:
    """Starting until `serve`, then as ready as the service says, until `drain`.

    Whoever publishes it is told of every change at once; a problem that comes and goes by itself
    is asked for as often as the loop's heartbeat.
    """

    def __init__(self, render: Callable[[], bytes] | None = None) -> None:
        self.render = render
        """Makes the metrics in Prometheus' text format; called on a thread of its own."""
        self.on_change: Callable[[], None] = lambda: None
        self._phase = Phase.STARTING
        self._since_ns = time.monotonic_ns()
        self._problem: Callable[[], str] = lambda: "the start is not over"

    @property
    def words(self) -> Words:
        """What it says now."""
        return Words(self._phase, self._since_ns, self._problem())

    def serve(self, problem: Callable[[], str] = no_problem) -> None:
        """The start is over; `problem` says from now on why the service is not ready, or ""."""
        self._enter(Phase.SERVING, problem)

    def drain(self, problem: str = "draining") -> None:
        """Never ready again."""
        self._enter(Phase.DRAINING, lambda: problem)

    def _enter(self, phase: Phase, problem: Callable[[], str]) -> None:
        self._phase = phase
        self._since_ns = time.monotonic_ns()
        self._problem = problem
        self.on_change()

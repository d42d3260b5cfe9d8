"""Aborts on their way to the library: so many in any one second, oldest first.

A mass of aborts at once can wedge the library's executor. Nobody waits for one: the client's answer
has ended before. With the kill switch none is told, and requests compute to their end.
"""

import asyncio
from collections import deque
from collections.abc import Callable

from worker.engine.tensorrt_llm.running_request import RunningRequest

_WINDOW_SECONDS = 1.0


class AbortQueue:
    """Tells of aborts, by `tell`, which is called on the loop."""

    def __init__(
        self, tell: Callable[[RunningRequest], None], *, per_second: int, is_on: bool
    ) -> None:
        self._tell = tell
        self._per_second = per_second
        self._is_on = is_on
        self._waiting: dict[RunningRequest, None] = {}
        self._told_at: deque[float] = deque()
        self._timer: asyncio.TimerHandle | None = None

    @property
    def num_waiting(self) -> int:
        """Aborts that were asked for and not yet told."""
        return len(self._waiting)

    def add(self, running: RunningRequest) -> None:
        """Tell now, or as soon as the rate allows; a second time is ignored."""
        if self._is_on and not running.is_aborted:
            self._waiting[running] = None
            self._tell_some()

    def discard(self, running: RunningRequest) -> None:
        """It ended by itself."""
        self._waiting.pop(running, None)

    def close(self) -> None:
        """Tell of no more."""
        self._waiting.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _tell_some(self) -> None:
        if self._timer is not None:
            return
        loop = asyncio.get_running_loop()
        now = loop.time()
        while self._told_at and now - self._told_at[0] >= _WINDOW_SECONDS:
            self._told_at.popleft()
        while self._waiting and len(self._told_at) < self._per_second:
            oldest = next(iter(self._waiting))
            del self._waiting[oldest]
            self._told_at.append(now)
            self._tell(oldest)
        if self._waiting:
            self._timer = loop.call_at(self._told_at[0] + _WINDOW_SECONDS, self._again)

    def _again(self) -> None:
        self._timer = None
        self._tell_some()

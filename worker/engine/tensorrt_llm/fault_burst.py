"""Tells one request's failure from the engine's, where the library calls both a RequestError.

An error of a step is told to every request that was in it, with the same words. So when all that
ran together failed alike, the engine itself is in doubt.
"""

import asyncio
from collections.abc import Callable, Iterable

from worker.engine.tensorrt_llm.running_request import RunningRequest

_WINDOW_SECONDS = 0.5
"""How far apart the same error may reach requests of one step."""


class FaultBurst:
    """Collects failures that follow one another; calls `on_burst` with their words."""

    def __init__(self, on_burst: Callable[[str], None]) -> None:
        self._on_burst = on_burst
        self._message = ""
        self._together: set[RunningRequest] = set()
        self._failed: set[RunningRequest] = set()
        self._timer: asyncio.TimerHandle | None = None

    def note(self, failed: RunningRequest, message: str, running: Iterable[RunningRequest]) -> None:
        """A request failed; `running` are those that the library computed then."""
        if self._timer is None:
            self._message = message
            self._together = set(running)
            self._failed = set()
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(_WINDOW_SECONDS, self._judge)
        if message == self._message:
            self._failed.add(failed)

    def close(self) -> None:
        """Judge no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _judge(self) -> None:
        self._timer = None
        is_burst = len(self._failed) > 1 and self._together <= self._failed
        self._together, self._failed = set(), set()
        if is_burst:
            self._on_burst(self._message)

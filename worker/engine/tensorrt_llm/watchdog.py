"""Watches an engine that may hang or die without a word: 1.2 tells of neither.

A hung GPU shows only in what does not come; an executor that shut itself down while nobody stepped
a result shows only in its flag.
"""

import asyncio
from collections.abc import Callable

from headrace.common.v1 import errors_pb2
from headrace.rpc.errors import ServiceError

_LONGEST_PERIOD_SECONDS = 5.0


class Watchdog:
    """Calls `on_failure` once, on the loop, and then watches no more."""

    def __init__(
        self,
        seconds: float,
        is_busy: Callable[[], bool],
        is_healthy: Callable[[], bool],
        on_failure: Callable[[ServiceError], None],
    ) -> None:
        self._seconds = seconds
        self._is_busy = is_busy
        self._is_healthy = is_healthy
        self._on_failure = on_failure
        self._loop = asyncio.get_running_loop()
        self._fed_at = self._loop.time()
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Begin to watch."""
        period = min(self._seconds / 4, _LONGEST_PERIOD_SECONDS)
        self._timer = self._loop.call_later(period, self._look)

    def stop(self) -> None:
        """Watch no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def feed(self) -> None:
        """The engine answered, or has something to do again."""
        self._fed_at = self._loop.time()

    def _look(self) -> None:
        if not self._is_healthy():
            self._fail("TensorRT-LLM has shut itself down.")
        elif self._is_busy() and self._loop.time() - self._fed_at >= self._seconds:
            self._fail(f"Requests run, but TensorRT-LLM gave no token for {self._seconds:g} s.")
        else:
            self.start()

    def _fail(self, message: str) -> None:
        self._timer = None
        self._on_failure(ServiceError(errors_pb2.ERROR_REASON_ENGINE_FAILURE, message))

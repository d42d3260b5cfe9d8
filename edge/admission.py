"""Admission: a bounded number of requests at work, a bounded first-come-first-served queue.

A permit is held from before rendering until the answer is written; whoever holds one gives it back
by leaving the context, however it leaves.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from edge.settings import AdmissionSettings
from headrace.common.v1 import errors_pb2
from headrace.rpc.errors import ServiceError


class Admission:
    """Gives permits; bound to the running event loop."""

    def __init__(self, settings: AdmissionSettings) -> None:
        self._settings = settings
        self._running = 0
        self._waiting: deque[asyncio.Future[None]] = deque()

    @property
    def num_running(self) -> int:
        """Permits given out now."""
        return self._running

    @property
    def num_queued(self) -> int:
        """Requests that wait for a permit now."""
        return len(self._waiting)

    @asynccontextmanager
    async def permit(self) -> AsyncIterator[None]:
        """Hold a permit. Raises ServiceError (overloaded): queue full, or waited too long."""
        if self._running < self._settings.max_concurrent_requests:
            self._running += 1
        else:
            await self._wait()
        try:
            yield
        finally:
            self._hand_on()

    async def _wait(self) -> None:
        """Return with a permit that its last holder handed on."""
        if len(self._waiting) >= self._settings.max_queued_requests:
            raise self._overloaded("too many requests are waiting")
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            async with asyncio.timeout(self._settings.queue_timeout_seconds):
                await turn
        except BaseException as error:
            if turn.done() and not turn.cancelled():
                self._hand_on()
            elif turn in self._waiting:
                # Not where a permit was to be handed on in the turn of the cancellation.
                self._waiting.remove(turn)
            if isinstance(error, TimeoutError):
                limit = self._settings.queue_timeout_seconds
                raise self._overloaded(f"the request waited {limit:g} seconds") from None
            raise

    def _hand_on(self) -> None:
        """Give the permit to the request that has waited longest, or take it back."""
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self._running -= 1

    def _overloaded(self, detail: str) -> ServiceError:
        return ServiceError(
            errors_pb2.ERROR_REASON_OVERLOADED,
            f"The server is overloaded: {detail}. Please try again later.",
            retry_after_seconds=self._settings.retry_after_seconds,
        )

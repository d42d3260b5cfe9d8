"""Spans that wait to be sent: bounded, and never in the way of who made them."""

import asyncio
from collections import deque
from typing import Final

from headrace.telemetry.recorded_span import RecordedSpan
from headrace.telemetry.span_counts import QUEUE_FULL, SHUTDOWN, SpanCounts

DUE_SPANS: Final = 64
"""So many wait for no interval: encoding them takes the loop about a millisecond."""


class SpanQueue:
    """First in, first out; what comes while it is full is dropped and counted.

    `put` may be called by any thread, all else by the loop that it was made on.
    """

    def __init__(self, max_waiting: int, counts: SpanCounts) -> None:
        self._max_waiting = max_waiting
        self._counts = counts
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[RecordedSpan] = deque()
        self._due = asyncio.Event()
        self._has_told = False
        self.closed = asyncio.Event()
        """Nothing comes any more."""

    def __len__(self) -> int:
        return len(self._waiting)

    def put(self, span: RecordedSpan) -> None:
        """Let a span wait."""
        num_waiting = len(self._waiting)
        if num_waiting >= self._max_waiting:
            self._counts.dropped(QUEUE_FULL, 1, f"{num_waiting} spans wait to be sent")
        elif self.closed.is_set():
            self._counts.dropped(SHUTDOWN, 1, "the span ended after the service did")
        else:
            self._waiting.append(span)
            if num_waiting + 1 >= DUE_SPANS and not self._has_told:
                self._has_told = True
                self._loop.call_soon_threadsafe(self._due.set)

    def take(self) -> RecordedSpan | None:
        """The span that has waited longest; None when none waits."""
        return self._waiting.popleft() if self._waiting else None

    async def due(self, seconds: float) -> None:
        """Return when a batch waits, after `seconds` at the latest."""
        if len(self._waiting) < DUE_SPANS:
            # A task that was to set the event before now has nothing more to tell.
            self._due.clear()
            self._has_told = False
            if len(self._waiting) < DUE_SPANS and not self.closed.is_set():
                await _first(self._due, seconds)

    def close(self) -> None:
        """What comes now is dropped; what waits may still be taken."""
        self.closed.set()
        self._due.set()


async def _first(event: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return

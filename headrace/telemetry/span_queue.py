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
        self._enough = asyncio.Event()
        self._wanted_spans = 1
        """So many are enough for whoever waits for them."""
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
            # Counted again: other threads come here too, and the loop may have begun to wait.
            if len(self._waiting) >= self._wanted_spans and not self._has_told:
                self._has_told = True
                self._loop.call_soon_threadsafe(self._tell)

    def take(self) -> RecordedSpan | None:
        """The span that has waited longest; None when none waits."""
        return self._waiting.popleft() if self._waiting else None

    async def due(self, seconds: float) -> None:
        """Return when a batch waits, at the latest `seconds` after the first span is there.

        While nothing waits no timer runs: a service whose requests are not traced is left asleep.
        """
        await self._gathered(1, None)
        await self._gathered(DUE_SPANS, seconds)

    def close(self) -> None:
        """What comes now is dropped; what waits may still be taken."""
        self.closed.set()
        self._enough.set()

    async def _gathered(self, num_spans: int, seconds: float | None) -> None:
        """Return when so many wait, after `seconds` at the latest, or when nothing comes more."""
        if len(self._waiting) < num_spans:
            self._wanted_spans = num_spans
            self._enough.clear()
            self._has_told = False
            # What `put` has added before it saw the line above, nobody tells.
            if len(self._waiting) < num_spans and not self.closed.is_set():
                await _first(self._enough, seconds)

    def _tell(self) -> None:
        if len(self._waiting) >= self._wanted_spans:
            self._enough.set()
        else:
            # It was told what is taken by now, or what another number was enough for.
            self._has_told = False


async def _first(event: asyncio.Event, seconds: float | None) -> None:
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return

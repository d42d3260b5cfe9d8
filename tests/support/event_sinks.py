"""A sink that holds an engine to the seam's rules and lets a test wait for what it emits."""

import asyncio
from collections.abc import Callable

from worker.engine.seam import EndedEvent, EngineEvents, StartedEvent, TokenLogprob


class CollectingSink:
    """Keeps all events by key; what breaks the seam's order is in `violations`."""

    def __init__(self) -> None:
        self.started: dict[int, StartedEvent] = {}
        self.token_ids: dict[int, list[int]] = {}
        self.logprobs: dict[int, list[TokenLogprob]] = {}
        self.ended: dict[int, EndedEvent] = {}
        self.violations: list[str] = []
        self._changed = asyncio.Event()

    def on_events(self, events: EngineEvents) -> None:
        for started in events.started:
            self._check(started.key not in self.started, f"{started.key} started twice")
            self.started[started.key] = started
        self._check(sum(events.counts) == len(events.token_ids), "counts do not add up")
        self._check(len(set(events.keys)) == len(events.keys), "a key occurs twice")
        begin = 0
        for key, count in zip(events.keys, events.counts, strict=True):
            self._check(key in self.started and key not in self.ended, f"{key} out of order")
            self.token_ids.setdefault(key, []).extend(events.token_ids[begin : begin + count])
            begin += count
            if key in events.logprobs:
                self._check(len(events.logprobs[key]) == count, f"{key} lacks a logprob")
                self.logprobs.setdefault(key, []).extend(events.logprobs[key])
        self._check(set(events.logprobs) <= set(events.keys), "a logprob without a token")
        for ended in events.ended:
            self._check(ended.key not in self.ended, f"{ended.key} ended twice")
            self.ended[ended.key] = ended
        self._changed.set()

    async def wait_until(self, condition: Callable[[], bool]) -> None:
        """Return when `condition` holds; it is asked after every iteration."""
        while not condition():
            self._changed.clear()
            await self._changed.wait()

    async def all_ended(self, *keys: int) -> None:
        """Return when all these outputs have ended."""
        await self.wait_until(lambda: set(keys) <= self.ended.keys())

    async def has_tokens(self, key: int, count: int = 1) -> None:
        """Return when an output has at least `count` tokens."""
        await self.wait_until(lambda: len(self.token_ids.get(key, ())) >= count)

    def _check(self, holds: object, message: str) -> None:
        if not holds:
            self.violations.append(message)

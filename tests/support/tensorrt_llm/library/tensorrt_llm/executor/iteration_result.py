"""Statistics and KV cache events for one consumer: what was read is gone.

The asynchronous form ends when nothing came within its timeout, which is no error.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any, TypeAlias

Take: TypeAlias = Callable[[float], list[dict[str, Any]]]


class IterationResult:
    """Iterates over what `take` gives; `timeout_seconds` is how long each item may take to come."""

    def __init__(
        self, take: Take | None, timeout_seconds: float, on_end: Callable[[], None] | None = None
    ) -> None:
        self._take = take
        self._on_end = on_end
        self._timeout_seconds = timeout_seconds
        self._items: list[dict[str, Any]] = []

    def get_results(self) -> list[dict[str, Any]]:
        """All that is there, without a loop."""
        if self._take is None:
            return []
        return [*self._items, *self._take(self._timeout_seconds)]

    def __aiter__(self) -> AsyncIterator[dict[str, Any]]:
        return self

    async def __anext__(self) -> dict[str, Any]:
        if self._take is None:
            raise StopAsyncIteration
        if not self._items:
            self._items = await asyncio.to_thread(self._take, self._timeout_seconds)
        if not self._items:
            if self._on_end is not None:
                self._on_end()
            raise StopAsyncIteration
        return self._items.pop(0)

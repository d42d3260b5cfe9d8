"""The queue between the proxy's thread and a waiter: on a loop where there was one, else blocking.

`put` is for the proxy's thread. Items of a batch are put first and announced afterwards, once for
each loop.
"""

import asyncio
import contextlib
import threading
from collections import deque
from typing import Generic, TypeVar

T = TypeVar("T")


class ResultQueue(Generic[T]):
    """One waiter's queue. `loop` is None where none ran when it was made."""

    def __init__(self, loop: asyncio.AbstractEventLoop | None) -> None:
        self.loop = loop
        self._items: deque[T] = deque()
        self._ready = threading.Condition()
        self._event = asyncio.Event()

    def put(self, item: T) -> None:
        """Add an item; `announce` makes it seen on the loop."""
        with self._ready:
            self._items.append(item)
            self._ready.notify_all()

    def announce(self) -> None:
        """On the loop: wake who waits."""
        self._event.set()

    def get(self, timeout_seconds: float | None = None) -> T:
        """Block. Raises TimeoutError."""
        with self._ready:
            if not self._ready.wait_for(lambda: bool(self._items), timeout_seconds):
                raise TimeoutError("nothing came")
            return self._items.popleft()

    async def aget(self) -> T:
        """Wait on the loop."""
        while True:
            with self._ready:
                if self._items:
                    return self._items.popleft()
                self._event.clear()
            await self._event.wait()


def announce_all(queues: "set[ResultQueue[T]]") -> None:
    """Wake every loop once; a loop that is closed is nobody's."""
    loops: dict[asyncio.AbstractEventLoop, list[ResultQueue[T]]] = {}
    for waiting in queues:
        if waiting.loop is not None:
            loops.setdefault(waiting.loop, []).append(waiting)
    for loop, waiting_queues in loops.items():
        # A closed loop says so by RuntimeError; nobody waits there any more.
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(_announce, waiting_queues)


def _announce(queues: "list[ResultQueue[T]]") -> None:
    for waiting in queues:
        waiting.announce()

"""Threads on which templates are rendered and text is encoded: never on the loop, and bounded.

A long text takes as long as thousands of short ones, so long ones wait for one another: they leave
one thread to what is short, and wait in the order in which they came.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

from headrace.common.v1 import errors_pb2
from headrace.rpc.errors import ServiceError

P = ParamSpec("P")
ResultT = TypeVar("ResultT")


class EncodingPool:
    """`threads` at work, at most `max_pending` jobs at work or waiting; used from one loop.

    A job of more than `long_characters` is a long one; with a single thread there is none to leave.
    """

    def __init__(self, threads: int, max_pending: int, long_characters: int) -> None:
        self._threads = threads
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix="encoding")
        self._long_places = asyncio.Semaphore(max(threads - 1, 1))
        self._long_characters = long_characters
        self._max_pending = max_pending
        self._pending = 0
        self._given = 0  # of these, given to the threads

    @property
    def num_busy(self) -> int:
        """Threads that are at work."""
        return min(self._given, self._threads)

    @property
    def num_waiting(self) -> int:
        """Jobs that wait for a thread, or for other long ones."""
        return max(0, self._pending - self.num_busy)

    async def run(
        self, characters: int, job: Callable[P, ResultT], *args: P.args, **kwargs: P.kwargs
    ) -> ResultT:
        """The result of a job on so many characters; a waiting job goes when its caller does.

        Raises ServiceError OVERLOADED when too many wait, and what the job raises.
        """
        if self._pending >= self._max_pending:
            message = f"The tokenizer is overloaded: {self._max_pending} texts are being encoded."
            raise ServiceError(errors_pb2.ERROR_REASON_OVERLOADED, message, retry_after_seconds=1.0)
        is_long = characters > self._long_characters
        self._pending += 1
        try:
            if is_long:
                await self._long_places.acquire()
        except asyncio.CancelledError:
            self._pending -= 1
            raise
        future = self._executor.submit(job, *args, **kwargs)
        self._given += 1
        # On the loop, when the thread is free again: a job at work outlives its caller.
        loop = asyncio.get_running_loop()
        future.add_done_callback(lambda _: loop.call_soon_threadsafe(self._leave, is_long))
        return await asyncio.wrap_future(future)

    def close(self) -> None:
        """Drop what waits and end when the threads are done."""
        self._executor.shutdown(cancel_futures=True)

    def _leave(self, is_long: bool) -> None:  # noqa: FBT001 (called by the loop)
        self._pending -= 1
        self._given -= 1
        if is_long:
            self._long_places.release()

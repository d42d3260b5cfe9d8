"""Threads on which templates are rendered and text is encoded: never on the loop, and bounded."""

import asyncio
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from threading import BoundedSemaphore
from typing import ParamSpec, TypeVar

from headrace.common.v1 import errors_pb2
from headrace.rpc.errors import ServiceError

P = ParamSpec("P")
ResultT = TypeVar("ResultT")


class EncodingPool:
    """`threads` at work, at most `max_pending` jobs at work or waiting."""

    def __init__(self, threads: int, max_pending: int) -> None:
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix="encoding")
        self._places = BoundedSemaphore(max_pending)
        self._max_pending = max_pending

    async def run(self, job: Callable[P, ResultT], *args: P.args, **kwargs: P.kwargs) -> ResultT:
        """The job's result; a waiting job is dropped when its caller goes away.

        Raises ServiceError OVERLOADED when too many wait, and what the job raises.
        """
        if not self._places.acquire(blocking=False):
            message = f"The tokenizer is overloaded: {self._max_pending} texts are being encoded."
            raise ServiceError(errors_pb2.ERROR_REASON_OVERLOADED, message, retry_after_seconds=1.0)
        future = self._executor.submit(job, *args, **kwargs)
        future.add_done_callback(self._leave)
        return await asyncio.wrap_future(future)

    def close(self) -> None:
        """Drop what waits and end when the threads are done."""
        self._executor.shutdown(cancel_futures=True)

    def _leave(self, _: Future[ResultT]) -> None:
        self._places.release()

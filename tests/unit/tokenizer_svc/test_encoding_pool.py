"""Threads shared by short and long texts."""

import asyncio
import threading
from collections.abc import AsyncIterator

import pytest

from headrace.common.v1 import errors_pb2
from headrace.rpc.errors import ServiceError
from tokenizer_svc.encoding_pool import EncodingPool

SHORT, LONG = 1, 1000


@pytest.fixture
async def pool() -> AsyncIterator[EncodingPool]:
    """Two threads, ten places."""
    pool = EncodingPool(2, 10, 100)
    yield pool
    await asyncio.to_thread(pool.close)


class Gate:
    """Jobs that are at work until they are let go."""

    def __init__(self) -> None:
        self.started: list[int] = []
        self._condition = threading.Condition()
        self._is_open = False

    def job(self, number: int) -> int:
        with self._condition:
            self.started.append(number)
            self._condition.notify_all()
            assert self._condition.wait_for(lambda: self._is_open, 20)
        return number

    async def wait_started(self, count: int) -> None:
        def wait() -> None:
            with self._condition:
                assert self._condition.wait_for(lambda: len(self.started) >= count, 20)

        await asyncio.to_thread(wait)

    def open(self) -> None:
        with self._condition:
            self._is_open = True
            self._condition.notify_all()


async def test_a_short_text_is_not_behind_long_ones(pool: EncodingPool) -> None:
    """While one long text is encoded and others wait, short ones are done."""
    gate = Gate()
    async with asyncio.TaskGroup() as group:
        long = [group.create_task(pool.run(LONG, gate.job, number)) for number in range(4)]
        await gate.wait_started(1)

        short = [await pool.run(SHORT, abs, -number) for number in range(20)]

        assert short == list(range(20))
        assert gate.started == [0]
        gate.open()
    assert [task.result() for task in long] == [0, 1, 2, 3]
    assert gate.started == [0, 1, 2, 3]


async def test_what_works_and_what_waits_is_known(pool: EncodingPool) -> None:
    """Long texts that wait for one another wait, though a thread is free; then all is idle."""
    gate = Gate()
    async with asyncio.TaskGroup() as group:
        for number in range(3):
            group.create_task(pool.run(LONG, gate.job, number))
        await gate.wait_started(1)
        long_only = (pool.num_busy, pool.num_waiting)
        for number in range(3, 6):
            group.create_task(pool.run(SHORT, gate.job, number))
        await gate.wait_started(2)
        both = (pool.num_busy, pool.num_waiting)
        gate.open()

    assert (long_only, both) == ((1, 2), (2, 4))
    assert (pool.num_busy, pool.num_waiting) == (0, 0)


async def test_short_texts_use_all_threads(pool: EncodingPool) -> None:
    """Without long texts no thread is kept free."""
    gate = Gate()
    async with asyncio.TaskGroup() as group:
        for number in range(2):
            group.create_task(pool.run(SHORT, gate.job, number))
        await gate.wait_started(2)
        gate.open()


async def test_a_single_thread_serves_both() -> None:
    """With one thread long texts are encoded too."""
    pool = EncodingPool(1, 10, 100)

    results = await asyncio.gather(*(pool.run(size, abs, -size) for size in (LONG, SHORT, LONG)))

    assert results == [LONG, SHORT, LONG]
    await asyncio.to_thread(pool.close)


async def test_a_long_text_that_waits_goes_with_its_caller(pool: EncodingPool) -> None:
    """It is never encoded, and its place and its turn are free again."""
    gate = Gate()
    async with asyncio.TaskGroup() as group:
        group.create_task(pool.run(LONG, gate.job, 0))
        await gate.wait_started(1)
        waiting = [asyncio.ensure_future(pool.run(LONG, gate.job, n)) for n in range(1, 10)]
        await asyncio.sleep(0)
        with pytest.raises(ServiceError) as caught:
            await pool.run(SHORT, abs, 1)
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        assert await pool.run(SHORT, abs, -1) == 1
        gate.open()

    assert caught.value.reason == errors_pb2.ERROR_REASON_OVERLOADED
    assert await pool.run(LONG, gate.job, 99) == 99
    assert gate.started == [0, 99]


async def test_a_long_text_at_work_keeps_its_turn_when_its_caller_goes(pool: EncodingPool) -> None:
    """The thread is taken until the work is done; the next long text waits for that."""
    gate = Gate()
    gone = asyncio.ensure_future(pool.run(LONG, gate.job, 0))
    await gate.wait_started(1)
    gone.cancel()
    await asyncio.gather(gone, return_exceptions=True)
    after = asyncio.ensure_future(pool.run(LONG, gate.job, 1))

    assert await pool.run(SHORT, abs, -1) == 1
    assert gate.started == [0]
    gate.open()
    assert await after == 1


async def test_a_failing_job_gives_everything_back(pool: EncodingPool) -> None:
    """What the job raises is raised, and the next long text runs."""
    for _ in range(12):
        with pytest.raises(ValueError, match="invalid literal"):
            await pool.run(LONG, int, "x")

    assert await pool.run(LONG, int, "7") == 7

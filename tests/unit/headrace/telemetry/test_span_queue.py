"""Spans that wait: bounded, in order, and told when a batch is due."""

import asyncio
import threading

import pytest

from headrace.telemetry.clock import SpanClock
from headrace.telemetry.recorded_span import RecordedSpan, SpanPlace, SpanTaker
from headrace.telemetry.span_counts import QUEUE_FULL, SHUTDOWN, SpanCounts
from headrace.telemetry.span_queue import DUE_SPANS, SpanQueue
from headrace.telemetry.spans import SpanKind

_TAKER = SpanTaker(SpanClock(), lambda _: None)
_PLACE = SpanPlace("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331", "", "01", "")
AGES = 50.0


def span(name: str = "chat") -> RecordedSpan:
    return RecordedSpan(_TAKER, name, SpanKind.CLIENT, _PLACE, None, 0)


async def test_order() -> None:
    """The span that has waited longest goes first."""
    queue = SpanQueue(100, SpanCounts())
    for name in "abc":
        queue.put(span(name))
    taken = [queue.take() for _ in range(4)]
    assert [each and each.name for each in taken] == ["a", "b", "c", None]


async def test_bound() -> None:
    """Of more than may wait the newest are lost and counted; room is used again."""
    counts = SpanCounts()
    queue = SpanQueue(2, counts)
    for name in "abcd":
        queue.put(span(name))
    queue.take()
    queue.put(span("e"))
    names = [each.name for each in (queue.take(), queue.take()) if each]
    assert (names, dict(counts.num_dropped)) == (["b", "e"], {QUEUE_FULL: 2})


async def test_due_when_a_batch_waits() -> None:
    """Whoever waits goes on as soon as a batch is there, and waits again once it is taken."""
    queue = SpanQueue(1000, SpanCounts())
    for _ in range(3):
        waiting = asyncio.create_task(queue.due(AGES))
        for _ in range(DUE_SPANS - 1):
            queue.put(span())
        done, _ = await asyncio.wait({waiting}, timeout=0.01)
        assert not done
        queue.put(span())
        await waiting
        while queue.take():
            pass


async def test_due_at_once() -> None:
    """A batch that waits already is waited for by nobody."""
    queue = SpanQueue(1000, SpanCounts())
    for _ in range(DUE_SPANS + 1):
        queue.put(span())
    await queue.due(AGES)
    assert len(queue) == DUE_SPANS + 1


async def test_due_by_another_thread() -> None:
    """A batch that another thread completes wakes a loop that sleeps."""
    queue = SpanQueue(1000, SpanCounts())
    sleeps = threading.Event()

    def fill() -> None:
        sleeps.wait()
        for _ in range(DUE_SPANS):
            queue.put(span())

    filling = threading.Thread(target=fill)
    filling.start()
    asyncio.get_running_loop().call_soon(sleeps.set)
    await queue.due(AGES)
    await asyncio.to_thread(filling.join)
    assert len(queue) == DUE_SPANS


async def test_due_after_the_interval() -> None:
    """Fewer spans wait no longer than the interval."""
    queue = SpanQueue(1000, SpanCounts())
    queue.put(span())
    await queue.due(0.001)
    assert len(queue) == 1


async def test_no_timer_while_nothing_waits() -> None:
    """An empty queue is waited for without a timer; the interval begins with the first span."""
    queue = SpanQueue(1000, SpanCounts())
    waiting = asyncio.create_task(queue.due(0.001))
    done, _ = await asyncio.wait({waiting}, timeout=0.02)
    assert not done
    queue.put(span())
    await waiting
    assert len(queue) == 1


async def test_first_span_by_another_thread() -> None:
    """Two threads that put a span each wake a loop that sleeps for want of any."""
    queue = SpanQueue(1000, SpanCounts())
    sleeps = threading.Event()

    def add() -> None:
        sleeps.wait()
        queue.put(span())

    adding = [threading.Thread(target=add) for _ in range(2)]
    for thread in adding:
        thread.start()
    asyncio.get_running_loop().call_soon(sleeps.set)
    await queue.due(0.001)
    for thread in adding:
        await asyncio.to_thread(thread.join)
    assert len(queue) == 2


async def test_told_of_what_is_taken_by_now() -> None:
    """Who was told of a batch that has been taken waits, and is told of the next one."""
    queue = SpanQueue(1000, SpanCounts())
    for _ in range(DUE_SPANS):
        queue.put(span())
    while queue.take():
        pass
    waiting = asyncio.create_task(queue.due(AGES))
    done, _ = await asyncio.wait({waiting}, timeout=0.01)
    assert not done
    for _ in range(DUE_SPANS):
        queue.put(span())
    await waiting
    assert len(queue) == DUE_SPANS


@pytest.mark.parametrize("closes_first", [True, False])
async def test_close(*, closes_first: bool) -> None:
    """Closed, nothing is waited for and nothing is taken any more; what waits stays."""
    counts = SpanCounts()
    queue = SpanQueue(1000, counts)
    queue.put(span())
    if closes_first:
        queue.close()
    waiting = asyncio.create_task(queue.due(AGES))
    await asyncio.wait({waiting}, timeout=0.001)
    queue.close()
    await waiting
    queue.put(span())
    assert (len(queue), dict(counts.num_dropped)) == (1, {SHUTDOWN: 1})

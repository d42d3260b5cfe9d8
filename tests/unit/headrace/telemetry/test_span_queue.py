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

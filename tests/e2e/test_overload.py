"""More requests than are admitted: the surplus is told when to come back, the rest goes on."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest

from edge.settings import AdmissionSettings, EdgeSettings
from tests.e2e.conftest import open_stack
from tests.support.chat_client import (
    Answer,
    WorkerProbe,
    ask,
    chat_body,
    eventually,
    metric,
)
from tests.support.stack import Service, Stack
from worker.engine.paced_settings import PacedSettings
from worker.settings import WorkerSettings

_QUEUE_SECONDS = 0.5


@pytest.fixture(scope="module")
def narrow_edge(paced: Stack) -> Service:
    """An edge that works on four requests and lets four wait."""
    admission = AdmissionSettings(
        max_concurrent_requests=4, max_queued_requests=4, retry_after_seconds=7
    )
    return paced.add_edge(EdgeSettings(admission=admission))


@pytest.fixture(scope="module")
def hasty_edge(paced: Stack) -> Service:
    """An edge that works on one request and lets others wait for half a second."""
    admission = AdmissionSettings(max_concurrent_requests=1, queue_timeout_seconds=_QUEUE_SECONDS)
    return paced.add_edge(EdgeSettings(admission=admission))


@pytest.fixture(scope="module")
def narrow_worker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A worker that runs two outputs and queues two."""
    engine = PacedSettings(max_running_outputs=2, max_queued_outputs=2)
    with open_stack(tmp_path_factory, "narrow-worker") as stack:
        stack.start_backend([WorkerSettings(engine="paced", paced=engine)])
        stack.add_edge()
        yield stack


def _require_overloaded(answer: Answer) -> None:
    assert answer.status == 503
    assert answer.error is not None
    assert answer.error["code"] is None
    assert answer.error["type"] == "service_unavailable_error"
    assert int(answer.headers["retry-after"]) >= 1


@pytest.mark.wire("E7.overloaded")
async def test_surplus_is_refused_at_once(narrow_edge: Service) -> None:
    """Four run, four wait their turn, the others get 503 and Retry-After; the eight go on."""
    async with _running(narrow_edge, 4, 1):
        waiting = [
            asyncio.create_task(ask(narrow_edge, chat_body(max_tokens=2, stream=number % 2 == 0)))
            for number in range(4)
        ]

        async def queued() -> bool:
            return await metric(narrow_edge, "headrace_edge_requests_queued") == 4

        await eventually(queued, "four wait")
        surplus = [ask(narrow_edge, chat_body(stream=number % 2 == 0)) for number in range(16)]
        refused = await asyncio.gather(*surplus)
        assert not any(each.done() for each in waiting)
    served = await asyncio.gather(*waiting)

    assert all(answer.is_complete for answer in served)
    for answer in refused:
        _require_overloaded(answer)
        assert answer.headers["retry-after"] == "7"


async def test_waiting_too_long(hasty_edge: Service) -> None:
    """A request that waits longer than the queue's bound gets 503; the one at work goes on."""
    async with _running(hasty_edge, 1, 1):
        began = time.monotonic()
        late = await ask(hasty_edge, chat_body(max_tokens=1))
        waited = time.monotonic() - began

    _require_overloaded(late)
    assert waited >= _QUEUE_SECONDS


async def test_waiting_requests_go_in_turn(narrow_edge: Service) -> None:
    """Who came first is served first."""
    ended: list[int] = []

    async def one(number: int) -> None:
        assert (await ask(narrow_edge, chat_body(max_tokens=25))).is_complete
        ended.append(number)

    tasks = []
    for number in range(8):
        tasks.append(asyncio.create_task(one(number)))

        async def taken(count: int = number + 1) -> bool:
            flying = await metric(narrow_edge, "headrace_edge_requests_in_flight")
            return flying + await metric(narrow_edge, "headrace_edge_requests_queued") == count

        await eventually(taken, f"{number + 1} requests are there")
    await asyncio.gather(*tasks)

    assert set(ended[:4]) == set(range(4))


@pytest.mark.parametrize("stream", [pytest.param(False, marks=pytest.mark.slow), True])
async def test_full_engine_queue(narrow_worker: Stack, stream: bool) -> None:
    """What the engine's queue does not take is refused with 503, before anything is streamed."""
    edge = narrow_worker.edge
    async with WorkerProbe(narrow_worker.workers[0]) as probe:
        async with _running(edge, 2, 1):
            waiting = [asyncio.create_task(ask(edge, chat_body(max_tokens=2))) for _ in range(2)]

            async def queued() -> bool:
                return (await probe.load()).queued_outputs == 2

            await eventually(queued, "the engine's queue is full")
            surplus = [ask(edge, chat_body(max_tokens=40, stream=stream)) for _ in range(6)]
            refused = await asyncio.gather(*surplus)
        served = await asyncio.gather(*waiting)

    for answer in refused:
        _require_overloaded(answer)
    assert all(answer.is_complete for answer in served)


@asynccontextmanager
async def _running(edge: Service, num_requests: int, n: int) -> AsyncIterator[None]:
    """Streams that have begun, run until the end of the block, and still go on then."""
    answers = [Answer() for _ in range(num_requests)]
    body = chat_body(max_tokens=3000, n=n, stream=True)
    tasks = [asyncio.create_task(ask(edge, body, into=answer)) for answer in answers]
    try:
        await _more_arrives(answers)
        yield
        await _more_arrives(answers)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _more_arrives(answers: list[Answer]) -> None:
    seen = [len(answer.body) for answer in answers]

    async def have_more() -> bool:
        return all(
            answer.has_text and len(answer.body) > before
            for answer, before in zip(answers, seen, strict=True)
        )

    await eventually(have_more, "every stream goes on")


async def test_requests_are_spread(paced: Stack) -> None:
    """Twenty requests: ten on each of two workers."""
    async with _running(paced.edge, 20, 1):
        counts = [await _count(worker) for worker in paced.workers]

    assert counts == [10, 10]


async def test_outputs_count_not_requests(paced: Stack) -> None:
    """Beside a request of ten outputs the other worker gets the next ten requests."""
    async with _running(paced.edge, 1, 10), _running(paced.edge, 10, 1):
        counts = [await _count(worker) for worker in paced.workers]

    assert sorted(counts) == [1, 10]


async def _count(worker: Service) -> int:
    async with WorkerProbe(worker) as probe:
        return await probe.running()

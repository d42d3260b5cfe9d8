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
    connected,
    eventually,
    http_request,
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
    """Four run, four wait their turn, the others get 503 and Retry-After; nobody is slowed."""
    refused_after: list[float] = []

    async def one(number: int) -> Answer:
        began = time.monotonic()
        answer = await ask(narrow_edge, chat_body(max_tokens=60, stream=number % 2 == 0))
        if answer.status == 503:
            refused_after.append(time.monotonic() - began)
        return answer

    answers = await asyncio.gather(*(one(number) for number in range(24)))
    served = [answer for answer in answers if answer.status == 200]
    refused = [answer for answer in answers if answer.status != 200]

    assert len(served) == 8
    assert all(answer.is_complete for answer in served)
    assert max(answer.longest_gap for answer in served if answer.is_stream) < 1
    for answer in refused:
        _require_overloaded(answer)
        assert answer.headers["retry-after"] == "7"
    assert max(refused_after) < 1


async def test_waiting_too_long(hasty_edge: Service) -> None:
    """A request that waits longer than the queue's bound gets 503; the one at work goes on."""
    running = Answer()
    first = asyncio.create_task(
        ask(hasty_edge, chat_body(max_tokens=80, stream=True), into=running)
    )

    async def has_text() -> bool:
        return running.has_text

    await eventually(has_text, "the first request runs")
    began = time.monotonic()
    late = await ask(hasty_edge, chat_body(max_tokens=1))
    waited = time.monotonic() - began

    _require_overloaded(late)
    assert waited >= _QUEUE_SECONDS
    assert (await first).is_complete


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
    body = chat_body(max_tokens=40, stream=stream)
    answers = await asyncio.gather(*(ask(narrow_worker.edge, body) for _ in range(10)))
    refused = [answer for answer in answers if answer.status != 200]

    assert len(refused) == 6
    for answer in refused:
        _require_overloaded(answer)
    assert all(answer.is_complete for answer in answers if answer.status == 200)


@asynccontextmanager
async def _running(edge: Service, num_requests: int, n: int) -> AsyncIterator[None]:
    """Streams that run until the end of the block; every one has begun."""
    async with connected(edge) as connection:
        await connection.send(http_request(chat_body(max_tokens=3000, n=n, stream=True)))
        await connection.read_until(b'"content":" ')
        if num_requests == 1:
            yield
            return
        async with _running(edge, num_requests - 1, n):
            yield


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

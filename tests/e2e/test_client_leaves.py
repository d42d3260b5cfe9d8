"""A client that leaves is aborted, whatever its request was doing.

How fast is a matter of the machine too: of several rounds the median must be within the bound, and
each must end.
"""

import signal
import statistics
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

import pytest

from edge.settings import AdmissionSettings, EdgeSettings, StreamingSettings
from tests.e2e.conftest import Measured, open_stack
from tests.support.chat_client import (
    Connection,
    WorkerProbe,
    ask,
    chat_body,
    eventually,
    http_request,
    metric,
)
from tests.support.stack import Service, Stack
from worker.engine.paced_settings import PacedSettings
from worker.settings import WorkerSettings

_BOUND_SECONDS = 0.1
_ROUNDS = 5
_CHAT_ROUTE = "/v1/chat/completions"
_IN_FLIGHT = "headrace_edge_requests_in_flight"
_QUEUED = "headrace_edge_requests_queued"
_ABORTED = "headrace_edge_aborted_generations_total"

# Where the way of leaving is the same once the request is at the worker.
_OFTEN_STREAMED = [pytest.param(False, marks=pytest.mark.slow), True]

LeaveAt = Callable[[Connection, WorkerProbe], Awaitable[None]]


@pytest.fixture(scope="module")
def narrow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A worker that runs one output at a time and prefills 20 tokens a second."""
    engine = PacedSettings(max_running_outputs=1, prefill_tokens_per_second=20)
    with open_stack(tmp_path_factory, "narrow") as stack:
        stack.start_backend([WorkerSettings(engine="paced", paced=engine)])
        stack.add_edge()
        yield stack


@pytest.fixture(scope="module")
def single(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A worker without such bounds, behind an edge that admits two requests at a time."""
    with open_stack(tmp_path_factory, "single") as stack:
        stack.start_backend([WorkerSettings(engine="paced")])
        admission = AdmissionSettings(max_concurrent_requests=2, max_queued_requests=4)
        stack.add_edge(EdgeSettings(admission=admission))
        streaming = StreamingSettings(high_water_bytes=1024, low_water_bytes=0)
        stack.add_edge(EdgeSettings(streaming=streaming))
        yield stack


@pytest.fixture
async def probe(single: Stack) -> AsyncIterator[WorkerProbe]:
    async with WorkerProbe(single.workers[0]) as probe:
        yield probe


async def _first_text(connection: Connection) -> None:
    await connection.read_until(b'"content":" ')


async def _is_idle(edge: Service) -> bool:
    return await metric(edge, _IN_FLIGHT) == 0 and await metric(edge, _QUEUED) == 0


async def _leave_and_time(
    edge: Service, worker: WorkerProbe, leave_at: LeaveAt, *, stream: bool, left: int = 0
) -> list[float]:
    """Seconds from the disconnect until the worker's table is back at `left` requests, by round."""
    seconds = []
    body = chat_body("Tell me about the river.", max_tokens=2000, stream=stream)
    for _ in range(_ROUNDS):
        connection = await Connection.open(edge)
        await connection.send(http_request(body))
        await leave_at(connection, worker)
        connection.leave()
        seconds.append(await worker.until_running(left))
    return seconds


def _require_prompt(seconds: list[float], measured: Measured) -> None:
    shown = [round(second * 1000) for second in seconds]
    measured("disconnect to table, ms", shown)
    assert statistics.median(seconds) <= _BOUND_SECONDS, f"milliseconds by round: {shown}"


async def test_half_a_body(single: Stack, probe: WorkerProbe) -> None:
    """A client that leaves within its body is counted as gone, and no worker hears of it."""
    labels = {"route": _CHAT_ROUTE, "status": "499"}
    gone = await metric(single.edge, "headrace_edge_requests_total", **labels)
    stray = (await probe.load()).prefilled_tokens
    connection = await Connection.open(single.edge)
    await connection.send(http_request(chat_body())[:-20])
    connection.leave()

    async def counted() -> bool:
        now = await metric(single.edge, "headrace_edge_requests_total", **labels)
        return now == gone + 1

    await eventually(counted, "the client is counted as gone")
    assert (await probe.load()).prefilled_tokens == stray


@pytest.mark.parametrize("stream", [False, True])
async def test_while_rendering(single: Stack, probe: WorkerProbe, stream: bool) -> None:
    """A client that leaves while its prompt is rendered frees its permit; nothing is generated."""
    prefilled = (await probe.load()).prefilled_tokens
    tokenizer = single.tokenizers[0]
    connection = await Connection.open(single.edge)
    tokenizer.signal(signal.SIGSTOP)
    try:
        await connection.send(http_request(chat_body(stream=stream)))

        async def rendering() -> bool:
            return await metric(single.edge, _IN_FLIGHT) == 1

        await eventually(rendering, "the request is being rendered")
        connection.leave()
        seconds = await eventually(lambda: _is_idle(single.edge), "the permit is free")
    finally:
        tokenizer.signal(signal.SIGCONT)

    answer = await ask(single.edge, chat_body("After that.", max_tokens=1))
    assert seconds < 1
    assert answer.is_complete
    assert (await probe.load()).prefilled_tokens == prefilled + answer.usage["prompt_tokens"]


@pytest.mark.parametrize("stream", [False, True])
async def test_in_the_edge_queue(single: Stack, probe: WorkerProbe, stream: bool) -> None:
    """A client that leaves the edge's queue makes room in it; those who run go on."""
    runners = [await Connection.open(single.edge) for _ in range(2)]
    for runner in runners:
        await runner.send(http_request(chat_body(max_tokens=2000, stream=True)))
        await _first_text(runner)
    waiting = await Connection.open(single.edge)
    await waiting.send(http_request(chat_body(stream=stream)))

    async def queued() -> bool:
        return await metric(single.edge, _QUEUED) == 1

    async def left() -> bool:
        return await metric(single.edge, _QUEUED) == 0

    await eventually(queued, "the third request waits")
    waiting.leave()
    seconds = await eventually(left, "the queue is empty")
    running = await probe.running()
    for runner in runners:
        await runner.read_until(b'"content":" ')
        runner.leave()
    await probe.until_running(0)

    assert running == 2
    assert seconds < 1


@pytest.mark.parametrize("stream", _OFTEN_STREAMED)
async def test_in_the_engine_queue(narrow: Stack, stream: bool, measured: Measured) -> None:
    """A client that leaves while its request waits in the engine leaves the worker's table."""
    first = await Connection.open(narrow.edge)
    await first.send(http_request(chat_body("A", max_tokens=2000, stream=True)))
    await _first_text(first)

    async def queued(_connection: Connection, worker: WorkerProbe) -> None:
        async def holds() -> bool:
            load = await worker.load()
            return (load.running_requests, load.queued_outputs) == (2, 1)

        await eventually(holds, "the second request waits in the engine")

    async with WorkerProbe(narrow.workers[0]) as worker:
        seconds = await _leave_and_time(narrow.edge, worker, queued, stream=stream, left=1)
        load = await worker.load()
        first.leave()
        await worker.until_running(0)

    assert load.queued_outputs == 0
    _require_prompt(seconds, measured)


@pytest.mark.parametrize("stream", _OFTEN_STREAMED)
async def test_in_prefill(narrow: Stack, stream: bool, measured: Measured) -> None:
    """A client that leaves before the first token leaves the worker's table."""

    async def prefilling(_connection: Connection, worker: WorkerProbe) -> None:
        async def holds() -> bool:
            load = await worker.load()
            return (load.running_requests, load.queued_outputs) == (1, 0)

        await eventually(holds, "the request is in prefill")

    async with WorkerProbe(narrow.workers[0]) as worker:
        seconds = await _leave_and_time(narrow.edge, worker, prefilling, stream=stream)

    _require_prompt(seconds, measured)


async def test_at_the_first_token(single: Stack, probe: WorkerProbe, measured: Measured) -> None:
    """A client that leaves at its first token leaves the worker's table; the abort is counted."""

    async def first_token(connection: Connection, _worker: WorkerProbe) -> None:
        await _first_text(connection)

    aborted = await metric(single.edge, _ABORTED)
    seconds = await _leave_and_time(single.edge, probe, first_token, stream=True)

    assert await metric(single.edge, _ABORTED) == aborted + _ROUNDS
    assert await metric(single.edge, _IN_FLIGHT) == 0
    _require_prompt(seconds, measured)


@pytest.mark.parametrize("stream", [False, True])
async def test_while_decoding(
    single: Stack,
    probe: WorkerProbe,
    stream: bool,
    measured: Measured,
) -> None:
    """A client that leaves amid its answer leaves the worker's table, streaming or not."""

    async def decoding(connection: Connection, worker: WorkerProbe) -> None:
        await worker.until_running(1)
        await ask(single.edge, chat_body(max_tokens=5))
        if stream:
            for _ in range(5):
                await connection.read_until(b"data: ")

    aborted = await metric(single.edge, _ABORTED)
    seconds = await _leave_and_time(single.edge, probe, decoding, stream=stream)

    assert await metric(single.edge, _ABORTED) == aborted + _ROUNDS
    assert await metric(single.edge, _IN_FLIGHT) == 0
    _require_prompt(seconds, measured)


async def test_while_the_rest_is_flushed(single: Stack, probe: WorkerProbe) -> None:
    """A client that leaves when only unread bytes are left of its answer frees its permit."""
    edge = single.edges[1]
    connection = await Connection.open(edge, receive_buffer=4096)
    body = chat_body(max_tokens=150, n=128, stream=True)
    await connection.send(http_request(body))
    await probe.until_running(1)
    await probe.until_running(0)
    unread = await metric(edge, _IN_FLIGHT)
    connection.leave()
    await eventually(lambda: _is_idle(edge), "the permit is free")

    assert unread == 1


@pytest.mark.model
@pytest.mark.parametrize("stream", _OFTEN_STREAMED)
async def test_in_a_real_prefill(real: Stack, stream: bool, measured: Measured) -> None:
    """With the CPU engine: gone from the table at once, and the blocks are free soon after."""
    seconds = []
    async with WorkerProbe(real.workers[0]) as worker:
        total = (await worker.load()).total_blocks
        for number in range(_ROUNDS):
            connection = await Connection.open(real.edge)
            content = f"{stream} {number} " + "The water runs to the sea. " * 700
            await connection.send(http_request(chat_body(content, stream=stream)))

            async def prefilling() -> bool:
                load = await worker.load()
                return load.referenced_blocks > 0

            await eventually(prefilling, "the prompt is being computed")
            connection.leave()
            seconds.append(await worker.until_running(0))

            async def freed() -> bool:
                return (await worker.load()).referenced_blocks == 0

            await eventually(freed, "no block is used")
        load = await worker.load()

    assert load.free_blocks + load.cached_blocks == total
    _require_prompt(seconds, measured)


@pytest.mark.model
async def test_in_a_real_decode(real: Stack, measured: Measured) -> None:
    """With the CPU engine amid an answer: the same."""
    seconds = []
    async with WorkerProbe(real.workers[0]) as worker:
        for number in range(_ROUNDS):
            connection = await Connection.open(real.edge)
            body = chat_body(f"Write a long story, number {number}.", min_tokens=500, stream=True)
            await connection.send(http_request(body))
            for _ in range(4):
                await connection.read_until(b"data: ")
            connection.leave()
            seconds.append(await worker.until_running(0))

            async def freed() -> bool:
                return (await worker.load()).referenced_blocks == 0

            await eventually(freed, "no block is used")

    _require_prompt(seconds, measured)

"""Clients that leave, and time that runs out: the phase that was at work ends so, no other."""

import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

import pytest

from edge.settings import AdmissionSettings, BackendSettings, EdgeSettings, StreamingSettings
from tests.support.chat_client import (
    Connection,
    WorkerProbe,
    ask,
    chat_body,
    eventually,
    http_request,
    metric,
)
from tests.support.stack import Service
from tests.telemetry.conftest import OpenStack
from tests.telemetry.span_table import Asked
from tests.telemetry.traced_stack import CallersTrace, TracedStack, ask_traced
from worker.engine.paced_settings import PacedSettings
from worker.settings import WorkerSettings

_FIRST_TEXT = b'"content":" '


@pytest.fixture(scope="module")
def stack(open_stack: OpenStack) -> Iterator[TracedStack]:
    """A worker that runs one output at a time and prefills 20 tokens a second."""
    with open_stack("traced-narrow") as stack:
        engine = PacedSettings(max_running_outputs=1, prefill_tokens_per_second=20)
        stack.start_backend([WorkerSettings(engine="paced", paced=engine)])
        stack.add_edge()
        yield stack


@pytest.fixture
async def probe(stack: TracedStack) -> AsyncIterator[WorkerProbe]:
    async with WorkerProbe(stack.workers[0]) as probe:
        yield probe
        await probe.until_running(0)


async def _until_load(probe: WorkerProbe, running: int, queued: int) -> None:
    async def holds() -> bool:
        load = await probe.load()
        return (load.running_requests, load.queued_outputs) == (running, queued)

    await eventually(holds, f"{running} requests, {queued} outputs of them queued")


async def _leave(
    edge: Service, stream: bool, until: Callable[[Connection], Awaitable[None]]
) -> CallersTrace:
    """Ask, wait until it has come so far, and be gone."""
    trace = CallersTrace()
    connection = await Connection.open(edge)
    body = chat_body(max_tokens=2000, stream=stream)
    await connection.send(http_request(body, headers=(trace.header,)))
    await until(connection)
    connection.leave()
    return trace


@pytest.mark.parametrize("stream", [False, True])
async def test_in_the_queue(stack: TracedStack, probe: WorkerProbe, stream: bool) -> None:
    """Left while the worker had no room: a queue that was cancelled, and nothing after it."""
    first = await Connection.open(stack.edge)
    await first.send(http_request(chat_body("A", max_tokens=2000, stream=True)))
    await first.read_until(_FIRST_TEXT)
    trace = await _leave(stack.edge, stream, lambda _: _until_load(probe, 2, 1))

    await stack.check("left in the queue", Asked(stream=stream), trace)
    first.leave()


@pytest.mark.parametrize("stream", [False, True])
async def test_in_prefill(stack: TracedStack, probe: WorkerProbe, stream: bool) -> None:
    """Left before the first token: a queue that ended well, a prefill that was cancelled."""
    trace = await _leave(stack.edge, stream, lambda _: _until_load(probe, 1, 0))

    await stack.check("left in prefill", Asked(stream=stream), trace)


@pytest.fixture(scope="module")
def wide(open_stack: OpenStack) -> Iterator[TracedStack]:
    """A worker without such bounds."""
    with open_stack("traced-wide") as stack:
        stack.start_backend([WorkerSettings(engine="paced")])
        stack.add_edge()
        yield stack


@pytest.mark.parametrize("stream", [False, True])
async def test_in_decode(wide: TracedStack, stream: bool) -> None:
    """Left amid the answer: queue and prefill ended well, decoding was cancelled."""

    async def decoding(connection: Connection) -> None:
        if stream:
            await connection.read_until(_FIRST_TEXT)
            return
        async with WorkerProbe(wide.workers[0]) as probe:
            await probe.until_running(1)
        # What is asked after it has five tokens.
        assert (await ask(wide.edge, chat_body(max_tokens=5))).is_complete

    trace = await _leave(wide.edge, stream, decoding)

    await wide.check("left in decode", Asked(stream=stream), trace)


async def test_while_rendering(stack: TracedStack) -> None:
    """Left while the tokenizer was at work: both sides of its call are cancelled, no attempt."""

    async def rendering(_: Connection) -> None:
        async def holds() -> bool:
            return await metric(stack.edge, "headrace_edge_requests_in_flight") == 1

        await eventually(holds, "the request is being rendered")

    tokenizer = stack.tokenizers[0]
    tokenizer.signal(signal.SIGSTOP)
    try:
        trace = await _leave(stack.edge, stream=False, until=rendering)

        async def left() -> bool:
            return await metric(stack.edge, "headrace_edge_requests_in_flight") == 0

        await eventually(left, "the edge has ended it")
    finally:
        tokenizer.signal(signal.SIGCONT)

    await stack.check("left while rendering", Asked(), trace)


async def test_reads_too_slowly(wide: TracedStack) -> None:
    """A client that takes nothing is dropped amid the answer: not the same as one that leaves."""
    streaming = StreamingSettings(stall_timeout_seconds=1, high_water_bytes=2048, low_water_bytes=0)
    edge = wide.add_edge(EdgeSettings(streaming=streaming))
    trace = CallersTrace()
    connection = await Connection.open(edge, receive_buffer=4096)
    body = chat_body(max_tokens=2000, n=128, stream=True)
    await connection.send(http_request(body, headers=(trace.header,)))

    async def dropped() -> bool:
        return await metric(edge, "headrace_edge_slow_readers_dropped_total") == 1

    await eventually(dropped, "the slow reader is dropped", 60)
    connection.leave()
    await wide.check("reads too slowly", Asked(stream=True, choices=128), trace)


async def test_in_the_body(stack: TracedStack) -> None:
    """Left before the request was whole: one span, which says so."""
    trace = CallersTrace()
    connection = await Connection.open(stack.edge)
    await connection.send(http_request(chat_body(), headers=(trace.header,))[:-20])
    connection.leave()

    await stack.check("left in the body", Asked(), trace)


async def test_in_the_edges_queue(stack: TracedStack) -> None:
    """Left while the edge had no room: a model span that was cancelled, and no call."""
    admission = AdmissionSettings(max_concurrent_requests=1)
    edge = stack.add_edge(EdgeSettings(admission=admission))
    first = await Connection.open(edge)
    await first.send(http_request(chat_body(max_tokens=2000, stream=True)))
    await first.read_until(_FIRST_TEXT)

    async def waiting(_: Connection) -> None:
        async def holds() -> bool:
            return await metric(edge, "headrace_edge_requests_queued") == 1

        await eventually(holds, "the second request waits")

    trace = await _leave(edge, stream=False, until=waiting)
    await stack.check("left in the edge's queue", Asked(), trace)
    first.leave()


@pytest.fixture(scope="module")
def hasty_edge(stack: TracedStack) -> Service:
    """An edge whose requests may take a second."""
    return stack.add_edge(EdgeSettings(backend=BackendSettings(request_timeout_seconds=1)))


@pytest.mark.parametrize("stream", [False, True])
async def test_deadline_in_prefill(stack: TracedStack, hasty_edge: Service, stream: bool) -> None:
    """Time that runs out before the first token: an error of prefill, and of all that waited."""
    trace = CallersTrace()
    answer = await ask_traced(hasty_edge, chat_body(stream=stream), trace)

    assert answer.status == 504
    await stack.check("deadline in prefill", Asked(stream=stream), trace)


async def test_deadline_in_the_queue(stack: TracedStack, hasty_edge: Service) -> None:
    """Time that runs out while the worker has no room: an error of the queue."""
    first = await Connection.open(stack.edge)
    await first.send(http_request(chat_body(max_tokens=2000, stream=True)))
    await first.read_until(_FIRST_TEXT)
    trace = CallersTrace()
    answer = await ask_traced(hasty_edge, chat_body(), trace)
    first.leave()

    assert answer.status == 504
    await stack.check("deadline in the queue", Asked(), trace)


@pytest.mark.parametrize("stream", [False, True])
async def test_deadline_in_decode(wide: TracedStack, stream: bool) -> None:
    """Time that runs out amid the answer: an error of decoding; what was over keeps its end."""
    edge = wide.add_edge(EdgeSettings(backend=BackendSettings(request_timeout_seconds=1)))
    trace = CallersTrace()
    answer = await ask_traced(edge, chat_body(max_tokens=2000, stream=stream), trace)

    assert answer.status == (200 if stream else 504)
    assert answer.error is not None
    await wide.check("deadline in decode", Asked(stream=stream), trace)


async def test_deadline_of_rendering(wide: TracedStack) -> None:
    """A tokenizer that does not answer in time: its call's deadline, and no attempt."""
    edge = wide.add_edge(EdgeSettings(backend=BackendSettings(render_timeout_seconds=0.5)))
    trace = CallersTrace()
    tokenizer = wide.tokenizers[0]
    tokenizer.signal(signal.SIGSTOP)
    try:
        answer = await ask_traced(edge, chat_body(), trace)
    finally:
        tokenizer.signal(signal.SIGCONT)

    assert answer.status == 504
    await wide.check("deadline of rendering", Asked(), trace)

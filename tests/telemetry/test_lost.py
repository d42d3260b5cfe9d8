"""Services that die or fail at work: an attempt each, and the truth about every one."""

import asyncio
import signal
from collections.abc import Iterator
from typing import cast

import pytest

from edge.settings import BackendSettings, EdgeSettings
from headrace.models.cache import resolve_model
from headrace.models.directory import open_model_directory
from headrace.telemetry import names
from tests.support.chat_client import (
    Answer,
    WorkerProbe,
    chat_body,
    eventually,
    metric,
)
from tests.support.stack import MODEL, Service
from tests.telemetry.collector import Collector
from tests.telemetry.conftest import OpenStack
from tests.telemetry.span_table import Asked
from tests.telemetry.traced_stack import CallersTrace, TracedStack, ask_traced, telemetry
from tests.telemetry.worker_thread import BreakingEngine, threaded_worker
from tokenizer_svc.settings import TokenizerSettings
from worker.engine.paced_settings import PacedSettings
from worker.settings import WorkerSettings

_LIMITS = {"heartbeat_seconds": 0.5, "silence_seconds": 3.0}


@pytest.fixture(scope="module")
def stack(open_stack: OpenStack) -> Iterator[TracedStack]:
    """Two tokenizers, two workers that prefill 20 tokens a second, one edge."""
    with open_stack("traced-pairs") as stack:
        engine = PacedSettings(prefill_tokens_per_second=20)
        worker = WorkerSettings(engine="paced", paced=engine, **_LIMITS)
        stack.start_backend([worker] * 2, [TokenizerSettings(**_LIMITS)] * 2)
        stack.add_edge(EdgeSettings(backend=BackendSettings(**_LIMITS)))
        yield stack


async def _busy_worker(stack: TracedStack) -> Service:
    """The worker that the only request went to."""
    found: list[Service] = []

    async def one_is() -> bool:
        for worker in stack.workers:
            async with WorkerProbe(worker) as probe:
                if await probe.running() == 1:
                    found.append(worker)
        return bool(found)

    await eventually(one_is, "a worker has the request")
    return found[0]


async def _connected_again(stack: TracedStack, service: Service, before: int) -> None:
    async def holds() -> bool:
        return len(_connections(stack, service)) > before

    await eventually(holds, f"{service.name} is connected again", 30)


def _connections(stack: TracedStack, service: Service) -> list[object]:
    events = stack.edge.events("peer_connected")
    return [event for event in events if event["address"] == service.address]


async def _lose_worker(
    stack: TracedStack, stream: bool, when: bytes | None
) -> tuple[Answer, CallersTrace]:
    """Ask, kill the worker that has the request, at once or when the answer holds `when`."""
    trace = CallersTrace()
    answer = Answer()
    body = chat_body(max_tokens=60, stream=stream)
    asking = asyncio.create_task(ask_traced(stack.edge, body, trace, into=answer))
    worker = await _busy_worker(stack)
    before = len(_connections(stack, worker))
    if when is not None:

        async def holds() -> bool:
            return when in answer.body

        await eventually(holds, "the answer has begun")
    worker.kill()
    await asking
    worker.start()
    await _connected_again(stack, worker, before)
    return answer, trace


@pytest.mark.parametrize("stream", [False, True])
async def test_before_the_first_token(stack: TracedStack, stream: bool) -> None:
    """A worker killed in prefill: two attempts, the first one lost, the second one whole."""
    answer, trace = await _lose_worker(stack, stream, None)

    assert answer.is_complete
    spans = await stack.check("lost before the first token", Asked(stream=stream), trace)
    attempts = [span.attributes for span in spans if span.name == names.GENERATE_METHOD]
    workers = {each[names.PEER_ADDRESS] for each in attempts if names.PEER_ADDRESS in each}
    assert len(workers) == 2


async def test_amid_the_answer(stack: TracedStack) -> None:
    """A worker killed after the first text: the second attempt goes on behind it."""
    answer, trace = await _lose_worker(stack, stream=True, when=b'"content":" ')

    assert answer.is_complete
    await stack.check("lost amid the answer", Asked(stream=True), trace)


async def test_amid_the_answer_of_the_only_worker(open_stack: OpenStack) -> None:
    """Nobody to go on after the first text: an error frame, one attempt, all of it an error."""
    with open_stack("traced-only-worker") as stack:
        stack.start_backend([WorkerSettings(engine="paced")])
        stack.add_edge()
        trace, answer = CallersTrace(), Answer()
        body = chat_body(max_tokens=2000, stream=True)
        asking = asyncio.create_task(ask_traced(stack.edge, body, trace, into=answer))

        async def has_text() -> bool:
            return answer.has_text

        await eventually(has_text, "the answer has begun")
        stack.workers[0].kill()
        await asking

        assert answer.status == 200
        assert answer.error is not None
        await stack.check("ended by a loss", Asked(stream=True), trace)


async def test_tokenizer_lost_while_it_renders(stack: TracedStack) -> None:
    """The other tokenizer renders: two calls, the first one lost."""
    tokenizer = stack.tokenizers[0]
    before = len(_connections(stack, tokenizer))
    tokenizer.signal(signal.SIGSTOP)
    traces = [CallersTrace() for _ in range(2)]
    body = chat_body(max_tokens=2)
    tasks = [asyncio.create_task(ask_traced(stack.edge, body, trace)) for trace in traces]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        waiting = [not task.done() for task in tasks]
        tokenizer.kill()
        answers = await asyncio.gather(*tasks)
    finally:
        if tokenizer.is_running:
            tokenizer.kill()
        tokenizer.start()
    await _connected_again(stack, tokenizer, before)

    assert all(answer.is_complete for answer in answers)
    assert sorted(waiting) == [False, True]
    for trace, waited in zip(traces, waiting, strict=True):
        await stack.check("rendered elsewhere" if waited else "answered", Asked(), trace)


async def test_nobody_left(open_stack: OpenStack) -> None:
    """The only tokenizer lost while it renders: 503 of its call. After that: 503, and no call."""
    with open_stack("traced-lonely") as stack:
        stack.start_backend([WorkerSettings(engine="paced")])
        edge = stack.add_edge()
        tokenizer = stack.tokenizers[0]
        tokenizer.signal(signal.SIGSTOP)
        lost = CallersTrace()
        asking = asyncio.create_task(ask_traced(edge, chat_body(), lost))

        async def rendering() -> bool:
            return await metric(edge, "headrace_edge_requests_in_flight") == 1

        await eventually(rendering, "the request is being rendered")
        tokenizer.kill()
        first = await asking

        async def noticed() -> bool:
            return bool(edge.events("peer_lost"))

        await eventually(noticed, "the edge knows of the loss")
        absent = CallersTrace()
        second = await ask_traced(edge, chat_body(), absent)

        assert (first.status, second.status) == (503, 503)
        await stack.check("tokenizer is lost", Asked(), lost)
        await stack.check("no worker", Asked(), absent)


@pytest.fixture(scope="module")
def broken(open_stack: OpenStack, collector: Collector) -> Iterator[TracedStack]:
    """A worker whose engine fails every output at its third token."""
    settings = WorkerSettings(engine="paced", port=0, telemetry=telemetry(collector.endpoint))
    # Slow enough for the first token's text to be out before the engine fails.
    slow = PacedSettings(tokens_per_second=5)
    engine = BreakingEngine(open_model_directory(resolve_model(MODEL)), slow)
    with threaded_worker(settings, engine) as worker, open_stack("traced-broken") as stack:
        stack.start_backend([])
        stack.workers.append(cast(Service, worker))
        stack.add_edge()
        yield stack


@pytest.mark.parametrize("stream", [False, True])
async def test_engine_fails(broken: TracedStack, stream: bool) -> None:
    """An engine that fails amid the answer: decoding failed, and all that waited for it."""
    trace = CallersTrace()
    answer = await ask_traced(broken.edge, chat_body(max_tokens=9, stream=stream), trace)

    assert answer.status == (200 if stream else 500)
    assert answer.error is not None
    await broken.check("engine fails", Asked(stream=stream), trace)

"""Requests that are refused, by whom and where: nothing is claimed that did not happen."""

import asyncio
from collections.abc import Iterator, Sequence
from pathlib import Path

import grpc
import pytest

from edge.settings import AdmissionSettings, EdgeSettings
from headrace.access.settings import GenerationKeysSettings
from headrace.telemetry import names
from headrace.worker.v1.generate_pb2 import GenerateRequest
from headrace.worker.v1.service_pb2_grpc import GenerationServiceStub
from tests.support.chat_client import Answer, Connection, chat_body, http_request
from tests.support.keys import KEY, entry, write_keys
from tests.support.raw_attach import generation
from tests.support.seen_spans import SeenSpan
from tests.support.stack import Service
from tests.telemetry.conftest import OpenStack
from tests.telemetry.span_table import Asked
from tests.telemetry.traced_stack import CallersTrace, TracedStack, ask_traced
from worker.engine.paced_settings import PacedSettings
from worker.settings import WorkerSettings


@pytest.fixture(scope="module")
def stack(open_stack: OpenStack) -> Iterator[TracedStack]:
    """One tokenizer, one worker that runs one output and lets none wait, one edge."""
    with open_stack("traced-refusals") as stack:
        engine = PacedSettings(max_running_outputs=1, max_queued_outputs=0)
        stack.start_backend([WorkerSettings(engine="paced", paced=engine)])
        stack.add_edge()
        yield stack


@pytest.fixture(scope="module")
def keyed_edge(stack: TracedStack, tmp_path_factory: pytest.TempPathFactory) -> Service:
    """An edge that demands a key, which may ask once a minute."""
    folder: Path = tmp_path_factory.mktemp("keys")
    keys = write_keys(folder / "keys.toml", entry(KEY, more="requests_per_minute = 1"))
    return stack.add_edge(EdgeSettings(keys=GenerationKeysSettings(file=keys)))


@pytest.fixture(scope="module")
def full_edge(stack: TracedStack) -> Service:
    """An edge that works on one request and lets none wait."""
    admission = AdmissionSettings(max_concurrent_requests=1, max_queued_requests=0)
    return stack.add_edge(EdgeSettings(admission=admission))


async def _is_refused(
    stack: TracedStack, scenario: str, status: int, answer: Answer, trace: CallersTrace
) -> None:
    assert answer.status == status, answer.body
    await stack.check(scenario, Asked(), trace)


async def test_no_key(stack: TracedStack, keyed_edge: Service) -> None:
    """401: one span, not the server's fault."""
    trace = CallersTrace()
    answer = await ask_traced(keyed_edge, chat_body(), trace)
    await _is_refused(stack, "no key", 401, answer, trace)


async def test_too_many_requests(stack: TracedStack, keyed_edge: Service) -> None:
    """429: the second request within the minute ends before it is rendered."""
    key = f"Authorization: Bearer {KEY}"
    first = await ask_traced(keyed_edge, chat_body(max_tokens=1), CallersTrace(), key)
    trace = CallersTrace()
    answer = await ask_traced(keyed_edge, chat_body(max_tokens=1), trace, key)
    assert first.status == 200
    await _is_refused(stack, "too many requests", 429, answer, trace)


async def test_no_such_url(stack: TracedStack) -> None:
    """404 of a path: its span has no path of the client's making in its name."""
    trace = CallersTrace()
    path = "/v1/chat/compilations"
    answer = await ask_traced(stack.edge, chat_body(), trace, path=path)
    assert answer.status == 404
    await stack.check("no such url", Asked(route="/{path}", path=path), trace)


async def test_no_such_model(stack: TracedStack) -> None:
    """404 of a model: a client's text is no model that an operator knows."""
    trace = CallersTrace()
    body = {**chat_body(), "model": "no-such-model"}
    answer = await ask_traced(stack.edge, body, trace)
    await _is_refused(stack, "no such model", 404, answer, trace)


async def test_bad_field(stack: TracedStack) -> None:
    """400 of a field, which the edge reads itself."""
    trace = CallersTrace()
    answer = await ask_traced(stack.edge, chat_body(temperature=-1), trace)
    await _is_refused(stack, "bad field", 400, answer, trace)


async def test_prompt_is_too_long(stack: TracedStack) -> None:
    """400 from the tokenizer: seen on both sides of its call, and no server's fault to HTTP."""
    trace = CallersTrace()
    answer = await ask_traced(stack.edge, chat_body("water " * 20_000), trace)
    await _is_refused(stack, "prompt is too long", 400, answer, trace)


async def _occupy(edge: Service) -> Connection:
    connection = await Connection.open(edge)
    await connection.send(http_request(chat_body(max_tokens=2000, stream=True)))
    await connection.read_until(b'"content":" ')
    return connection


async def test_edge_is_full(stack: TracedStack, full_edge: Service) -> None:
    """503 of admission: nothing is rendered."""
    trace = CallersTrace()
    running = await _occupy(full_edge)
    try:
        answer = await ask_traced(full_edge, chat_body(), trace)
    finally:
        running.leave()
    await _is_refused(stack, "edge is full", 503, answer, trace)


async def test_worker_is_full(stack: TracedStack) -> None:
    """503 of the only worker: it was rendered, the worker refused it, no phase began."""
    trace = CallersTrace()
    running = await _occupy(stack.edge)
    try:
        answer = await ask_traced(stack.edge, chat_body(), trace)
    finally:
        running.leave()
    await _is_refused(stack, "worker is full", 503, answer, trace)


async def test_moved_to_another_worker(open_stack: OpenStack) -> None:
    """A full worker's refusal is an attempt of its own; the other worker answers."""
    with open_stack("traced-moves") as stack:
        engine = PacedSettings(max_running_outputs=1, max_queued_outputs=0)
        stack.start_backend([WorkerSettings(engine="paced", paced=engine)] * 2)
        stack.add_edge()
        async with grpc.aio.insecure_channel(stack.workers[0].address) as channel:
            request = GenerateRequest(request=generation(max_tokens=2000))
            call = GenerationServiceStub(channel).Generate(request)
            await call.read()
            found = [await _answered_or_moved(stack) for _ in range(4)]
            call.cancel()

    # Workers with as little to do take turns, and the edge sees only its own requests.
    assert "moved to another worker" in found


async def _answered_or_moved(stack: TracedStack) -> str:
    trace = CallersTrace()
    answer = await ask_traced(stack.edge, chat_body(max_tokens=2), trace)
    assert answer.is_complete
    spans = await asyncio.to_thread(stack.recorder.await_trace, trace.trace_id, _has_http, 10)
    was_moved = any(span.attributes.get(names.ATTEMPT) == 2 for span in spans)
    scenario = "moved to another worker" if was_moved else "answered"
    await stack.check(scenario, Asked(), trace)
    return scenario


def _has_http(spans: Sequence[SeenSpan]) -> bool:
    return any(names.HTTP_ROUTE in span.attributes for span in spans)

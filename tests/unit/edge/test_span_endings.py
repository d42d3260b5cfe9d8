"""The edge's spans and log lines of requests that end before their time: exactly once, truly."""

import asyncio
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
import structlog

from edge.http_server import EdgeServer
from tests.support.edge_server import (
    CHAT,
    HELLO,
    RawClient,
    ask,
    raw_client,
    request_head,
    running_edge,
    wait_until,
)
from tests.support.fake_backend import MODEL, FakeBackend, FakeGeneration
from tests.support.span_recorder import RecordedSpan, SpanRecorder

STREAM = {**HELLO, "stream": True}
BODIES = pytest.mark.parametrize("document", [HELLO, STREAM], ids=["whole", "stream"])
LEFT = ("client_cancelled", "")


@dataclass
class Scene:
    """An edge whose spans are recorded, and one client."""

    edge: EdgeServer
    client: RawClient
    backend: FakeBackend
    recorder: SpanRecorder
    logs: list[Any] = field(default_factory=list)

    async def ended(self) -> tuple[RecordedSpan, RecordedSpan | None, Mapping[str, Any]]:
        """Server span, model span and log line of the one request, once all is over."""
        assert await self.edge._state.until_idle(5)
        await wait_until(lambda: bool(self.lines))
        assert [] == self.recorder.unended
        http = self.recorder.named(f"POST {CHAT}")
        chat = self.recorder.named(f"chat {MODEL.name}")
        assert (1, 1) == (len(http), len(self.lines))
        return http[0], chat[0] if chat else None, self.lines[0]

    @property
    def lines(self) -> list[Any]:
        return [line for line in self.logs if line["event"] == "request_served"]


@asynccontextmanager
async def scene(**settings: Mapping[str, Any]) -> AsyncIterator[Scene]:
    recorder, backend = SpanRecorder(), FakeBackend(texts=None)
    with structlog.testing.capture_logs() as logs:
        async with (
            running_edge(backend, tracing=recorder, **settings) as edge,
            raw_client(edge.port) as client,
        ):
            yield Scene(edge, client, backend, recorder, logs)


async def test_a_client_that_leaves_within_its_body() -> None:
    """No model is asked, no status was sent, and the server did not fail."""
    async with scene() as here:
        headers = {"Content-Length": 100, "Expect": "100-continue"}
        here.client.send(request_head("POST", CHAT, "1.1", headers))
        await here.client.head()
        here.client.close()
        http, chat, line = await here.ended()

    assert (None, None) == (http.error, chat)
    assert "client_cancelled" == http.attributes["error.type"]
    assert "http.response.status_code" not in http.attributes
    assert (499, "client_cancelled") == (line["status"], line["reason"])


@BODIES
async def test_a_client_that_leaves_while_it_is_rendered(document: Any) -> None:
    """The model span failed by its client; the log says how long rendering had taken."""
    async with scene() as here:
        here.backend.render_gate = asyncio.Event()
        here.client.post(document)
        await here.backend.rendering.wait()
        here.client.close()
        http, chat, line = await here.ended()

    assert chat is not None
    assert (None, LEFT) == (http.error, chat.error)
    assert {"admission_seconds", "render_seconds"} <= line.keys()
    assert "ttft_seconds" not in line


@BODIES
async def test_a_client_that_leaves_within_the_answer(document: Any) -> None:
    """What had gone out is told: the status of a stream, its tokens and its first text."""
    async with scene() as here:
        here.client.post(document)
        generation = await here.backend.next_generation()
        generation.start()
        generation.text("some")
        if "stream" in document:
            await here.client.head()
        here.client.close()
        http, chat, line = await here.ended()

    assert chat is not None
    assert (None, LEFT) == (http.error, chat.error)
    assert (200 if "stream" in document else None) == http.attributes.get(
        "http.response.status_code"
    )
    assert 1 == chat.attributes["gen_ai.usage.output_tokens"]
    assert (1, 1, []) == (line["completion_tokens"], line["attempts"], line["finish_reasons"])
    assert 0 < line["ttft_seconds"] <= line["seconds"]
    assert generation.why_aborted is not None
    assert "client_cancelled" == generation.why_aborted.label


async def test_a_slow_reader_is_told_from_one_that_left() -> None:
    """Who is dropped for reading too slowly did not leave: the log and all spans say so."""
    slow = {"stall_timeout_seconds": 0.2, "high_water_bytes": 1024, "low_water_bytes": 512}
    async with scene(streaming=slow) as here:
        here.client.post(STREAM)
        generation = await here.backend.next_generation()
        generation.start()
        await here.client.head()
        here.client.writer.transport.pause_reading()  # type: ignore[attr-defined] (a selector's)
        for _ in range(2000):
            generation.text("x" * 10_000)
        http, chat, line = await here.ended()

    assert chat is not None
    assert ("slow_reader", None) == (http.attributes["error.type"], http.error)
    assert ("slow_reader", "") == chat.error
    assert (499, "slow_reader") == (line["status"], line["reason"])
    assert generation.why_aborted is not None
    assert "slow_reader" == generation.why_aborted.label


async def test_a_reader_whom_the_kernel_drops_is_a_slow_one() -> None:
    """Nor did the one leave that takes nothing, while all that it was sent is the kernel's."""
    async with scene(streaming={"stall_timeout_seconds": 0.2}) as here:
        here.client.post(STREAM)
        generation = await here.backend.next_generation()
        generation.start()
        await here.client.head()
        writer = here.client.writer
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        writer.transport.pause_reading()  # type: ignore[attr-defined] (a selector's)
        for _ in range(100):
            generation.text("x" * 2_000)
        http, chat, line = await here.ended()

    assert chat is not None
    assert ("slow_reader", None) == (http.attributes["error.type"], http.error)
    assert ("slow_reader", "") == chat.error
    assert (499, "slow_reader") == (line["status"], line["reason"])


async def begin(here: Scene, document: Any, *, is_begun: bool) -> FakeGeneration:
    """Have a request generated, and read its head if it is a stream that has begun."""
    here.client.post(document)
    generation = await here.backend.next_generation()
    if is_begun:
        generation.start()
        generation.text("some")
        if "stream" in document:
            await here.client.head()
    return generation


@BODIES
@pytest.mark.parametrize("is_begun", [False, True])
async def test_a_deadline_is_the_servers_failure(document: Any, is_begun: bool) -> None:
    """All that was at work is ended with the deadline as its reason."""
    async with scene(backend={"request_timeout_seconds": 0.1}) as here:
        generation = await begin(here, document, is_begun=is_begun)
        http, chat, line = await here.ended()

    error = ("deadline_exceeded", "")
    assert chat is not None
    assert (error, error, error[0]) == (http.error, chat.error, line["reason"])
    assert generation.why_aborted is not None
    assert "deadline_exceeded" == generation.why_aborted.label


@BODIES
async def test_the_end_of_the_grace_is_the_servers_failure(document: Any) -> None:
    """What is cut by a shutdown says so, and not that its client left."""
    async with scene(server={"drain_grace_seconds": 0.05}) as here:
        generation = await begin(here, document, is_begun=True)
        await here.edge.drain()
        http, chat, line = await here.ended()

    error = ("draining", "")
    assert chat is not None
    assert (error, error, error[0]) == (http.error, chat.error, line["reason"])
    assert generation.why_aborted is not None
    assert "draining" == generation.why_aborted.label


async def test_a_body_that_is_refused_beforehand_is_traced_and_logged() -> None:
    """What the head alone condemns has its span and its line too, and is not asked to go on."""
    async with scene(server={"max_body_bytes": 2000}) as here:
        headers = {"Content-Length": 9000, "Expect": "100-continue"}
        here.client.send(request_head("POST", CHAT, "1.1", headers))
        assert 413 == (await here.client.response()).status
        http, chat, line = await here.ended()

    assert (None, None) == (http.error, chat)
    assert ("request_too_large", 413) == (
        http.attributes["error.type"],
        http.attributes["http.response.status_code"],
    )
    assert (413, "request_too_large") == (line["status"], line["reason"])


async def test_the_log_line_says_how_the_answer_went() -> None:
    """Times, attempts and reasons of an answer; nothing of its text."""
    async with scene() as here:
        here.backend.texts = ("very", "secret")
        response = await ask(here.edge.port, {**HELLO, "n": 2})
        _, _, line = await here.ended()

    assert 200 == response.status
    assert (1, ["stop", "stop"], None) == (
        line["attempts"],
        line["finish_reasons"],
        line["reason"],
    )
    assert line["admission_seconds"] <= line["ttft_seconds"] <= line["seconds"]
    assert here.recorder.spans[0].trace_id == line["trace_id"]
    assert "secret" not in str(here.logs)


async def test_a_whole_answer_ends_with_its_last_byte() -> None:
    """Neither span nor log line comes before the client has taken the body, however slowly."""
    narrow = {"high_water_bytes": 1024, "low_water_bytes": 512}
    text = "x" * 20_000_000
    async with scene(streaming=narrow) as here:
        here.client.post(HELLO)
        generation = await here.backend.next_generation()
        generation.answer([text])
        head = await here.client.head()
        assert [f"POST {CHAT}"] == here.recorder.unended
        assert [] == here.lines
        body = await here.client.reader.readexactly(int(head.headers["content-length"]))
        http, chat, line = await here.ended()

    assert len(body) > len(text)
    assert chat is not None
    assert chat.end_ns is not None
    assert http.end_ns is not None
    assert chat.end_ns < http.end_ns
    assert 200 == line["status"]

"""Clients that leave: whatever the request was doing ends at once, and nothing is kept."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from edge.http_server import EdgeServer
from tests.support.edge_server import (
    CHAT,
    HELLO,
    RawClient,
    ask,
    raw_client,
    request_head,
    running_edge,
)
from tests.support.fake_backend import FakeBackend

SOON = 5.0
"""Nothing in here ends by itself so soon: what a client's leaving does not end runs into it."""
BODIES = pytest.mark.parametrize(
    "document", [HELLO, {**HELLO, "stream": True}], ids=["whole", "stream"]
)


@pytest.fixture
def backend() -> FakeBackend:
    return FakeBackend(texts=None)


@pytest.fixture
async def edge(backend: FakeBackend) -> AsyncIterator[EdgeServer]:
    async with running_edge(backend, admission={"max_concurrent_requests": 1}) as edge:
        yield edge


@pytest.fixture
async def client(edge: EdgeServer) -> AsyncIterator[RawClient]:
    async with raw_client(edge.port) as client:
        yield client


async def figure(edge: EdgeServer, name: str) -> float:
    """A figure of /metrics."""
    async with raw_client(edge.port) as client:
        client.get("/metrics")
        lines = (await client.response()).body.decode().splitlines()
    return float(next(line.rsplit(" ", 1)[1] for line in lines if line.startswith(name)))


async def queued_becomes(edge: EdgeServer, wanted: int) -> None:
    while await figure(edge, "headrace_edge_requests_queued") != wanted:
        pass


async def all_is_free(edge: EdgeServer, backend: FakeBackend) -> None:
    """No permit is held, and the next request is served."""
    assert await edge._state.until_idle(SOON)
    assert await figure(edge, "headrace_edge_requests_in_flight") == 0
    assert await figure(edge, "headrace_edge_requests_queued") == 0
    backend.texts = ("ok",)
    if backend.render_gate is not None:
        backend.render_gate.set()
    assert (await ask(edge.port, HELLO)).status == 200


async def test_half_a_body(edge: EdgeServer, client: RawClient, backend: FakeBackend) -> None:
    """Gone in the middle of the body."""
    headers = {"Content-Length": 100, "Expect": "100-continue"}
    client.send(request_head("POST", CHAT, "1.1", headers))
    await client.head()
    client.send(b'{"model"')
    client.close()

    await all_is_free(edge, backend)
    assert len(backend.conversations) == 1


@BODIES
async def test_rendering(
    edge: EdgeServer, client: RawClient, backend: FakeBackend, document: Any
) -> None:
    """Gone while the prompt is rendered."""
    backend.render_gate = asyncio.Event()
    client.post(document)
    await backend.rendering.wait()
    client.close()

    async with asyncio.timeout(SOON):
        await backend.render_cancelled.wait()
    assert [] == backend.generations
    await all_is_free(edge, backend)


@BODIES
async def test_queued(
    edge: EdgeServer, client: RawClient, backend: FakeBackend, document: Any
) -> None:
    """Gone while waiting for a permit."""
    client.post(HELLO)
    running = await backend.next_generation()
    async with raw_client(edge.port) as second:
        second.post(document)
        await queued_becomes(edge, 1)
        second.close()
        async with asyncio.timeout(SOON):
            await queued_becomes(edge, 0)
    running.answer(["done"])

    assert (await client.response()).status == 200
    await all_is_free(edge, backend)
    assert len(backend.generations) == 2


@BODIES
async def test_prefill(
    edge: EdgeServer, client: RawClient, backend: FakeBackend, document: Any
) -> None:
    """Gone before the worker has taken the request up."""
    client.post(document)
    generation = await backend.next_generation()
    client.close()

    async with asyncio.timeout(SOON):
        await generation.aborted.wait()
    await all_is_free(edge, backend)
    assert await figure(edge, "headrace_edge_aborted_generations_total") == 1


@BODIES
async def test_decode(
    edge: EdgeServer, client: RawClient, backend: FakeBackend, document: Any
) -> None:
    """Gone in the middle of the text; what still comes is dropped."""
    client.post(document)
    generation = await backend.next_generation()
    generation.start()
    generation.text("some")
    if document.get("stream"):
        await client.head()
    client.close()
    for _ in range(20):
        generation.text("more")
        await asyncio.sleep(0)

    async with asyncio.timeout(SOON):
        await generation.aborted.wait()
    generation.text("too late")
    generation.finish()
    generation.done()
    await all_is_free(edge, backend)


async def test_flush(backend: FakeBackend) -> None:
    """Gone after the end of the answer, before all of it was read."""
    async with running_edge(backend) as edge, raw_client(edge.port) as client:
        client.post({**HELLO, "stream": True})
        generation = await backend.next_generation()
        generation.start()
        await client.head()
        for _ in range(3000):
            generation.text("x" * 10_000)
        generation.finish()
        generation.done()
        assert not await edge._state.until_idle(0.05)
        client.close()

        await all_is_free(edge, backend)
    assert not generation.aborted.is_set()


@pytest.mark.parametrize(
    "behind", [b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n" * 100, b""], ids=["requests", "body"]
)
async def test_pipeliner_is_dropped(backend: FakeBackend, behind: bytes) -> None:
    """Who sends so much behind a running request that it is not read from is dropped in time."""
    if not behind:
        behind = request_head("POST", CHAT, "1.1", {"Content-Length": 2**20}) + bytes(2**20)
    settings = {"stall_timeout_seconds": 0.3}
    async with running_edge(backend, streaming=settings) as edge, raw_client(edge.port) as client:
        client.post(HELLO)
        generation = await backend.next_generation()
        client.send(behind)

        await generation.aborted.wait()
        with pytest.raises(ConnectionResetError):
            await client.reader.read()


async def test_pipelined_requests_are_answered(edge: EdgeServer, client: RawClient) -> None:
    """Requests beyond what is buffered are all answered where none takes long."""
    client.send(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n" * 500)

    assert {(await client.response()).status for _ in range(500)} == {200}


async def test_others_go_on(edge: EdgeServer, backend: FakeBackend) -> None:
    """A request in the queue takes the place of one whose client left."""
    async with raw_client(edge.port) as first, raw_client(edge.port) as second:
        first.post(HELLO)
        abandoned = await backend.next_generation()
        second.post(HELLO)
        first.close()
        await abandoned.aborted.wait()
        (await backend.next_generation()).answer(["mine"])

        assert (await second.response()).json()["choices"][0]["message"]["content"] == "mine"

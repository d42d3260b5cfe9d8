"""More requests than the edge takes."""

import asyncio

import pytest

from tests.support.edge_server import HELLO, ask, raw_client, running_edge
from tests.support.fake_backend import FakeBackend


@pytest.mark.parametrize("stream", [False, True])
async def test_queue_is_full(stream: bool) -> None:
    """Beyond the queue a request is refused with 503 and Retry-After; the others are served."""
    limits = {"max_concurrent_requests": 1, "max_queued_requests": 0, "retry_after_seconds": 3}
    backend = FakeBackend(texts=None)
    document = {**HELLO, "stream": stream}
    async with running_edge(backend, admission=limits) as edge, raw_client(edge.port) as client:
        client.post(document)
        running = await backend.next_generation()

        response = await ask(edge.port, document)
        running.answer(["ok"])

        assert (503, None) == (response.status, response.error["code"])
        assert response.headers["retry-after"] == "3"
        assert "x-should-retry" not in response.headers
        assert (await client.response()).status == 200


async def test_waiting_ends() -> None:
    """A request that waits longer than allowed is refused."""
    limits = {"max_concurrent_requests": 1, "queue_timeout_seconds": 0.05}
    backend = FakeBackend(texts=None)
    async with running_edge(backend, admission=limits) as edge, raw_client(edge.port) as client:
        client.post(HELLO)
        running = await backend.next_generation()

        response = await ask(edge.port, HELLO)
        running.answer(["ok"])
        await client.response()

    assert (503, None) == (response.status, response.error["code"])
    assert len(backend.generations) == 1


async def test_many_at_once() -> None:
    """Within the bounds everybody is served, each with an answer of their own."""
    backend = FakeBackend()
    limits = {"max_concurrent_requests": 4, "max_queued_requests": 60}
    async with running_edge(backend, admission=limits) as edge:
        answers = await asyncio.gather(
            *(ask(edge.port, {**HELLO, "stream": bool(i % 2)}) for i in range(64))
        )

    assert {200} == {answer.status for answer in answers}
    assert len({answer.headers["x-request-id"] for answer in answers}) == 64


async def test_large_bodies_are_not_kept() -> None:
    """A chunked body of 100 MB is refused after the bound, and the rest is not read into memory."""
    backend = FakeBackend()
    async with running_edge(backend) as edge, raw_client(edge.port) as client:
        client.send(
            b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
        )
        block = b"100000\r\n" + b" " * 2**20 + b"\r\n"
        sent = 0
        response = asyncio.create_task(client.response())
        while not response.done() and sent < 100:
            client.send(block)
            sent += 1
            await client.writer.drain()
            await asyncio.sleep(0)

        assert (await response).status == 413
        assert sent < 40
        assert (await ask(edge.port, HELLO)).status == 200

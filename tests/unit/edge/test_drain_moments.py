"""Requests and answers that are under way in the very moment in which an edge ends."""

import asyncio
import json
import socket
import ssl
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from edge.http_server import EdgeServer
from tests.support.certificates import Authority
from tests.support.edge_server import (
    CHAT,
    HELLO,
    parse_events,
    raw_client,
    request_head,
    running_edge,
    wait_until,
)
from tests.support.fake_backend import FakeBackend

_ANSWER_BYTES = 200_000


def _whole_request() -> bytes:
    body = json.dumps(HELLO).encode()
    return request_head("POST", CHAT, "1.1", {"Content-Length": len(body)}) + body


async def _turns(count: int) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


@pytest.mark.parametrize("turns", range(6))
@pytest.mark.parametrize("is_kept", [True, False])
async def test_a_request_of_that_moment_is_answered(is_kept: bool, turns: int) -> None:
    """Whether the edge has read, parsed or begun what had reached its connection, which then ends.

    `turns` are those of the loop between the request's arrival and the drain.
    """
    async with running_edge(FakeBackend(texts=["Hi"])) as edge:
        sock = socket.create_connection(("127.0.0.1", edge.port))
        sock.setblocking(False)
        async with raw_client(edge.port, sock=sock) as client, raw_client(edge.port) as idle:
            for each in (client, idle) if is_kept else (idle,):
                each.get("/health")
                await each.response()
            # At once, and not when the loop turns.
            assert sock.send(_whole_request()) == len(_whole_request())
            await _turns(turns)
            await edge.drain()

            answer = await client.response()
            assert answer.status == 200
            assert answer.json()["choices"][0]["message"]["content"] == "Hi"
            assert await client.reader.read() == b""
            assert await idle.reader.read() == b""


async def test_a_request_behind_a_stream_is_answered() -> None:
    """The stream's head said nothing of a close: what waits behind it hears that it is refused."""
    backend = FakeBackend(texts=None)
    async with running_edge(backend) as edge, raw_client(edge.port) as client:
        client.post({**HELLO, "stream": True})
        generation = await backend.next_generation()
        generation.start()
        await client.head()
        client.send(_whole_request())
        draining = asyncio.create_task(edge.drain())
        await wait_until(lambda: edge._state.is_draining)
        generation.text("to the end")
        generation.finish()
        generation.done()
        events = parse_events(b"".join([chunk async for chunk in client.chunks()]))
        refused = await client.response()
        await draining

        assert events[-1] == "[DONE]"
        assert (503, "close") == (refused.status, refused.headers["connection"])
        assert refused.error["code"] == "draining"
        assert await client.reader.read() == b""


def _slow_socket(edge: EdgeServer) -> socket.socket:
    """A connection whose kernel takes little at both ends: the rest waits in the edge."""
    # What connections inherit.
    listener = edge._listeners[0].sockets[0]
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.connect(("127.0.0.1", edge.port))
    return sock


@pytest.mark.parametrize("stream", [False, True])
async def test_an_answer_is_read_to_its_end(stream: bool) -> None:
    """A drain is over when a slow reader has all of its answer, and not before."""
    backend = FakeBackend(texts=["x" * 1000] * (_ANSWER_BYTES // 1000))
    async with running_edge(backend) as edge:
        sock = _slow_socket(edge)
        async with raw_client(edge.port, sock=sock, limit=1024) as client:
            client.post({**HELLO, "stream": stream})
            await backend.next_generation()
            await edge._state.until_idle(5)
            draining = asyncio.create_task(edge.drain())
            await _turns(100)
            assert not draining.done()
            body = await client.reader.read(-1)
            await draining

        assert body.count(b"x" * 1000) == _ANSWER_BYTES // 1000
        assert body.endswith(b"0\r\n\r\n" if stream else b"}")


async def test_an_answer_is_read_to_its_end_below_tls(tmp_path: Path) -> None:
    """So it is where the rest of the answer waits between TLS and the kernel."""
    authority = Authority(tmp_path)
    pair = authority.issue("localhost")
    context = ssl.create_default_context(cafile=authority.file)
    files = {"tls_certificate_file": pair.certificate, "tls_key_file": pair.key}
    backend = FakeBackend(texts=["x" * 1000] * 40)
    async with running_edge(backend, server=files) as edge:
        sock = _slow_socket(edge)

        def ask() -> ssl.SSLSocket:
            secured = context.wrap_socket(sock, server_hostname="localhost")
            secured.sendall(_whole_request())
            return secured

        def read(secured: ssl.SSLSocket) -> bytes:
            body = b"".join(iter(lambda: secured.recv(65536), b""))
            secured.close()
            return body

        client = await asyncio.to_thread(ask)
        await backend.next_generation()
        await edge._state.until_idle(5)
        (connection,) = edge._connections
        assert connection.has_unsent
        draining = asyncio.create_task(edge.drain())
        body = await asyncio.to_thread(read, client)
        await draining

    assert body.count(b"x" * 1000) == 40
    assert not connection.has_unsent


async def test_an_answer_that_nobody_reads_ends_with_the_grace() -> None:
    """It holds the drain up no longer than a request may, and the log tells of it."""
    backend = FakeBackend(texts=["x" * 1000] * (_ANSWER_BYTES // 1000))
    async with running_edge(backend, server={"drain_grace_seconds": 0.1}) as edge:
        sock = _slow_socket(edge)
        async with raw_client(edge.port, sock=sock, limit=1024) as client:
            client.post(HELLO)
            await backend.next_generation()
            with capture_logs() as logs:
                async with asyncio.timeout(10):
                    await edge.drain()

    [warning] = [line for line in logs if line["event"] == "answers_unread"]
    assert warning["connections"] == 1

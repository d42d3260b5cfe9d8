"""Readers that are slower than the answer, in clear and over TLS; on both event loops."""

import asyncio
import json
import socket
import ssl
import subprocess
import sys
from pathlib import Path

import pytest
import structlog

from headrace.common.v1 import errors_pb2
from headrace.rpc.errors import ServiceError
from tests.support.edge_server import (
    CHAT,
    HELLO,
    RawClient,
    ask,
    parse_events,
    raw_client,
    request_head,
    running_edge,
    streamed_text,
    wait_until,
)
from tests.support.fake_backend import FakeBackend, FakeGeneration

STREAM = {**HELLO, "stream": True}
LOST = ServiceError(errors_pb2.ERROR_REASON_WORKER_LOST, "worker gone")


@pytest.fixture
def backend() -> FakeBackend:
    return FakeBackend(texts=None)


async def begun(client: RawClient, backend: FakeBackend) -> FakeGeneration:
    """A stream whose headers and role chunk have been read."""
    client.post(STREAM)
    generation = await backend.next_generation()
    generation.start()
    assert (await client.head()).status == 200
    await anext(client.chunks())
    return generation


SLOW = {"high_water_bytes": 65536, "low_water_bytes": 16384}
BLOCK = "x" * 10_000


def narrow_socket(port: int) -> socket.socket:
    """A connection whose kernel buffer holds little, so that the edge's own fills up."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.connect(("127.0.0.1", port))
    sock.setblocking(False)
    return sock


async def fill(generation: FakeGeneration) -> int:
    """Write until the edge holds deltas back; the number of blocks."""
    blocks = 0
    while generation.consumer._is_direct:
        generation.text(BLOCK)
        blocks += 1
        assert blocks < 10_000
        if blocks % 4 == 0:
            await asyncio.sleep(0)
    return blocks


async def test_slow_reader_gets_merged_deltas(backend: FakeBackend) -> None:
    """Above the high-water mark nothing more is buffered; later all text arrives, merged."""
    async with (
        running_edge(backend, streaming=SLOW) as edge,
        raw_client(0, sock=narrow_socket(edge.port)) as client,
    ):
        generation = await begun(client, backend)
        blocks = await fill(generation)
        transport = generation.consumer._transport
        unread = transport.get_write_buffer_size()
        for _ in range(100):
            generation.text("yz")
        generation.finish()
        generation.done()
        held = transport.get_write_buffer_size()
        events = parse_events(b"".join([chunk async for chunk in client.chunks()]))

    assert SLOW["high_water_bytes"] < unread < SLOW["high_water_bytes"] + 6 * len(BLOCK)
    assert held == unread
    texts = [e["choices"][0]["delta"].get("content") for e in events[:-2]]
    assert [BLOCK] * blocks + ["yz" * 100] == texts
    assert (events[-2]["choices"][0]["finish_reason"], events[-1]) == ("stop", "[DONE]")
    assert not generation.aborted.is_set()


async def test_error_waits_behind_held_text(backend: FakeBackend) -> None:
    """What was held back goes out before the error frame."""
    async with (
        running_edge(backend, streaming=SLOW) as edge,
        raw_client(0, sock=narrow_socket(edge.port)) as client,
    ):
        generation = await begun(client, backend)
        blocks = await fill(generation)
        generation.text("tail")
        generation.fail(LOST)
        events = parse_events(b"".join([chunk async for chunk in client.chunks()]))

    assert len(BLOCK) * blocks + 4 == len(streamed_text(events))
    assert events[-1]["error"]["code"] == "worker_lost"


async def test_crash_in_mid_stream(backend: FakeBackend) -> None:
    """An unforeseen error after the headers is a frame behind the text, and the stream ends."""
    async with (
        running_edge(backend, streaming=SLOW) as edge,
        raw_client(0, sock=narrow_socket(edge.port)) as client,
    ):
        generation = await begun(client, backend)
        blocks = await fill(generation)
        # No text: it cannot be encoded, which the handler finds when it writes what was held.
        generation.text("\ud800")
        events = parse_events(b"".join([chunk async for chunk in client.chunks()]))
        assert await client.reader.read() == b""

    assert len(BLOCK) * blocks == len(streamed_text(events))
    assert events[-1]["error"] == {
        "message": "The server had an error while processing your request.",
        "type": "server_error",
        "param": None,
        "code": None,
    }
    assert generation.aborted.is_set()


async def test_crash_behind_the_crash(backend: FakeBackend) -> None:
    """Where not even the error can be written the stream is cut, and the log says why."""
    with structlog.testing.capture_logs() as logs:
        async with (
            running_edge(backend, streaming=SLOW) as edge,
            raw_client(0, sock=narrow_socket(edge.port)) as client,
        ):
            client.post({**STREAM, "n": 2})
            generation = await backend.next_generation()
            generation.start()
            await client.head()
            await fill(generation)
            generation.text("\ud800", 0)
            generation.text("\ud800", 1)
            body = await client.reader.read()
            assert (await ask(edge.port, b"{")).status == 400

    assert not body.endswith(b"0\r\n\r\n")
    assert generation.aborted.is_set()
    crashes = [line for line in logs if line["log_level"] == "error"]
    assert ["request_crashed", "request_crashed"] == [line["event"] for line in crashes]


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's timeout is Linux's")
async def test_reader_of_nothing_below_the_high_water_mark(backend: FakeBackend) -> None:
    """A peer that leaves a little unread for ever is dropped too, by the kernel."""
    backend.texts = ("x" * 100_000,)
    settings = {"stall_timeout_seconds": 0.5}
    async with running_edge(backend, streaming=settings) as edge:
        with narrow_socket(edge.port) as sock:
            body = json.dumps(HELLO).encode()
            head = request_head("POST", CHAT, "1.1", {"Content-Length": len(body)})
            await asyncio.get_running_loop().sock_sendall(sock, head + body)
            await backend.next_generation()
            await wait_until(lambda: not edge._runner.server.connections)


@pytest.mark.parametrize("is_ended", [False, True])
async def test_stalled_reader_is_dropped(backend: FakeBackend, is_ended: bool) -> None:
    """A reader of a byte a moment is dropped after the stall timeout, ended answer or not."""
    settings = {**SLOW, "stall_timeout_seconds": 0.3}
    async with running_edge(backend, streaming=settings) as edge:
        with narrow_socket(edge.port) as sock:
            body = json.dumps(STREAM).encode()
            head = request_head("POST", CHAT, "1.1", {"Content-Length": len(body)})
            loop = asyncio.get_running_loop()
            await loop.sock_sendall(sock, head + body)
            generation = await backend.next_generation()
            generation.start()
            await loop.sock_recv(sock, 1)
            blocks = await fill(generation)
            if is_ended:
                generation.finish()
                generation.done()
            trickle = asyncio.create_task(_read_slowly(sock))
            assert await edge._state.until_idle(5)
            trickle.cancel()
            read = await _read_until_reset(sock)

        assert is_ended != generation.aborted.is_set()
        assert read < len(BLOCK) * blocks // 2
        assert (await ask(edge.port, b"{")).status == 400


async def _read_slowly(sock: socket.socket) -> None:
    for _ in range(1000):
        await asyncio.get_running_loop().sock_recv(sock, 1)
        await asyncio.sleep(0.01)


async def _read_until_reset(sock: socket.socket) -> int:
    """How many bytes there still were."""
    total = 0
    try:
        while received := await asyncio.get_running_loop().sock_recv(sock, 65536):
            total += len(received)
    except ConnectionResetError:
        return total
    raise AssertionError("the connection ended without a reset")


async def test_stalled_reader_of_a_whole_answer(backend: FakeBackend) -> None:
    """A reader that does not take a whole answer is dropped likewise."""
    settings = {**SLOW, "stall_timeout_seconds": 0.3}
    backend.texts = (BLOCK * 1000,)
    async with running_edge(backend, streaming=settings) as edge:
        with narrow_socket(edge.port) as sock:
            body = json.dumps(HELLO).encode()
            head = request_head("POST", CHAT, "1.1", {"Content-Length": len(body)})
            loop = asyncio.get_running_loop()
            await loop.sock_sendall(sock, head + body)
            await loop.sock_recv(sock, 1)
            await wait_until(lambda: not edge._runner.server.connections)
            read = await _read_until_reset(sock)

    assert read < len(BLOCK) * 1000 // 2


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A self-signed certificate for loopback, and its key."""
    folder = tmp_path_factory.mktemp("tls")
    certificate, key = folder / "cert.pem", folder / "key.pem"
    subprocess.run(
        f"openssl req -x509 -newkey rsa:2048 -nodes -days 1 -subj /CN=localhost "
        f"-keyout {key} -out {certificate}".split(),
        check=True,
        capture_output=True,
    )
    return certificate, key


async def test_tls(backend: FakeBackend, certificate: tuple[Path, Path]) -> None:
    """Over TLS a stream is the same, slow reader included."""
    context = ssl.create_default_context(cafile=certificate[0])
    tls = {"tls_certificate_file": certificate[0], "tls_key_file": certificate[1]}
    options = {"ssl": context, "server_hostname": "localhost"}
    async with (
        running_edge(backend, server=tls, streaming=SLOW) as edge,
        raw_client(edge.port, **options) as client,
    ):
        generation = await begun(client, backend)
        blocks = await fill(generation)
        generation.text("tail")
        generation.finish()
        generation.done()
        events = parse_events(b"".join([chunk async for chunk in client.chunks()]))

    assert len(BLOCK) * blocks + 4 == len(streamed_text(events))
    assert events[-1] == "[DONE]"

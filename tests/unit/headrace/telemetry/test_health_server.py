import asyncio
import socket
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass

import pytest

from headrace.telemetry.health_page import Phase
from headrace.telemetry.health_server import (
    MAX_CONNECTIONS,
    Connection,
    Crowd,
    Patience,
    serve_health,
)
from tests.support.health_pages import ToldHealth, told_health

GET = b"GET /health HTTP/1.1\r\n\r\n"
HTTP2_START = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0"
PING = b"\0\0\10\6\0\0\0\0\0" + bytes(8)
WHILE_TESTED = 60.0
"""A patience that no test outlives."""


@dataclass
class Served:
    told: ToldHealth
    port: int

    @asynccontextmanager
    async def client(
        self, address: str = "127.0.0.1"
    ) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", self.port, local_addr=(address, 0)
        )
        try:
            yield reader, writer
        finally:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()

    async def status(self) -> int:
        """Of /health, over a connection of its own."""
        async with self.client() as (reader, writer):
            writer.write(GET)
            return int((await reader.readline()).split()[1])


@asynccontextmanager
async def served(**patience: float) -> AsyncIterator[Served]:
    long = {"progress": WHILE_TESTED, "idle": WHILE_TESTED, "linger": WHILE_TESTED}
    listener = socket.create_server(("127.0.0.1", 0))
    listener.setblocking(False)
    with told_health() as told:
        told.tell(Phase.SERVING)
        serving = asyncio.create_task(
            serve_health(listener, told.view, Patience(**{**long, **patience}))
        )
        try:
            yield Served(told, listener.getsockname()[1])
        finally:
            serving.cancel()
            await asyncio.gather(serving, return_exceptions=True)


async def test_both_protocols_on_one_port() -> None:
    """Whoever begins as HTTP/2 does is answered in it, also when the beginning comes in pieces."""
    async with served() as it, it.client() as (reader, writer):
        for byte in HTTP2_START:
            writer.write(bytes([byte]))
            await writer.drain()
        frame = await reader.readexactly(9)

        # A SETTINGS frame on stream 0 (RFC 9113, 6.5).
        assert (frame[3], frame[5:]) == (4, bytes(4))
        assert await it.status() == 200


async def test_one_connection_serves_many_requests() -> None:
    """As scrapers like it."""
    async with served() as it, it.client() as (reader, writer):
        for _ in range(3):
            writer.write(GET * 2)
            for _ in range(2):
                head = await reader.readuntil(b"\r\n\r\n")
                await reader.readexactly(len(b'{"status": "ok"}'))
                assert head.startswith(b"HTTP/1.1 200 ")


async def test_a_last_answer_arrives_although_more_was_sent() -> None:
    """The rest of what is refused does not take the answer from its sender."""
    async with served() as it, it.client() as (reader, writer):
        writer.write(b"POST /health HTTP/1.1\r\nContent-Length: 4000\r\n\r\n" + bytes(4000))
        answer = await reader.read()

        assert answer.startswith(b"HTTP/1.1 413 ")


@pytest.mark.parametrize("first", [b"", b"GET /hea", b"PRI * HT", HTTP2_START, GET + b"GET "])
async def test_who_makes_no_progress_is_closed(first: bytes) -> None:
    """Silent from the start, in the middle of a request, or without any: none stays for ever."""
    async with served(progress=0.05, idle=0.05, linger=0.05) as it, it.client() as (reader, writer):
        writer.write(first)
        async with asyncio.timeout(WHILE_TESTED / 2):
            await reader.read()


async def test_one_byte_a_time_does_not_count_as_progress() -> None:
    """The time for a request's head begins with its first byte, whatever follows."""
    async with served(progress=0.05) as it, it.client() as (reader, writer):
        closed = asyncio.create_task(reader.read())
        writer.write(b"GET /health HTTP/1.1\r\n")
        while not closed.done():
            with suppress(ConnectionError):
                writer.write(b"X")
                await writer.drain()
            await asyncio.wait([closed], timeout=0.02)

        with suppress(ConnectionError):
            assert closed.result() == b""


async def test_an_idle_connection_stays_as_long_as_it_may() -> None:
    """The short patience is for requests alone."""
    async with served(progress=0.05) as it, it.client() as (reader, writer):
        writer.write(GET)
        await reader.readuntil(b"\r\n\r\n")
        async with it.client() as (silent, _):
            await silent.read()
        writer.write(GET)

        assert b"200" in await reader.readuntil(b"\r\n\r\n")


async def test_more_connections_than_are_allowed_do_not_keep_a_probe_out() -> None:
    """The one that was answered the longest ago goes, and the newest is answered."""
    async with served() as it, AsyncExitStack() as stack:
        others = [it.client("127.0.0.2") for _ in range(MAX_CONNECTIONS)]
        clients = [await stack.enter_async_context(other) for other in others]
        for _, writer in clients:
            writer.write(b"GET /metrics HTTP/1.1\r\nX-Half: ")
        # All have been accepted when the newest is answered: the first has been closed for it.
        assert await it.status() == 200
        async with asyncio.timeout(WHILE_TESTED / 2):
            with suppress(ConnectionError):
                assert await clients[0][0].read() == b""
        assert not clients[-1][0].at_eof()


class Caller(asyncio.Transport):
    """A connection from an address, which sends what it is told to."""

    def __init__(self, crowd: Crowd, address: str) -> None:
        super().__init__({"peername": (address, 50000)})
        self.said = b""
        self.is_cut = False
        self._connection = Connection(crowd)
        self._connection.connection_made(self)

    def says(self, data: bytes) -> "Caller":
        self._connection.get_buffer(-1)[: len(data)] = data
        self._connection.buffer_updated(len(data))
        return self

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.said += data

    def abort(self) -> None:
        self.is_cut = True
        self._connection.connection_lost(None)

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass

    def is_closing(self) -> bool:
        return self.is_cut


def test_an_address_that_comes_again_and_again_is_turned_away_for_a_while() -> None:
    """With HTTP/2, that is: nothing of it is read; others are served, and it is a moment later."""
    with told_health() as told:
        crowd = Crowd(told.view, Patience())

        def greeted(address: str) -> bool:
            caller = Caller(crowd, address).says(HTTP2_START)
            assert caller.is_cut != bool(caller.said)
            if not caller.is_cut:
                caller.abort()
            return bool(caller.said)

        assert [greeted("10.0.0.2") for _ in range(200)] == [True] * 128 + [False] * 72
        assert greeted("10.0.0.3")
        assert Caller(crowd, "10.0.0.2").says(GET).said.startswith(b"HTTP/1.1 200 ")
        crowd.tick()
        assert greeted("10.0.0.2")


async def test_who_takes_no_answers_is_not_read_and_then_closed() -> None:
    """What is asked is not kept as answers that nobody takes."""
    async with served(progress=0.2) as it, it.client() as (_, writer):
        it.told.page.tell_figures(it.told.now_ns, b"# HELP a b\n" + b"a 1\n" * 2**20)
        writer.write(b"GET /metrics HTTP/1.1\r\n\r\n" * 10_000)

        # Written to nobody, the first answers fill the sockets; then the connection is reset.
        with pytest.raises(ConnectionError):
            await ask_without_end(writer)
        assert await it.status() == 200


def test_nothing_is_read_from_who_takes_nothing() -> None:
    """Reading stops with the first answer that finds no room, and goes on when there is some."""

    class Transport(asyncio.Transport):
        is_read = True

        def pause_reading(self) -> None:
            self.is_read = False

        def resume_reading(self) -> None:
            self.is_read = True

        def is_closing(self) -> bool:
            return False

    with told_health() as told:
        connection, transport = Connection(Crowd(told.view, Patience())), Transport()
        connection.connection_made(transport)
        connection.pause_writing()
        assert not transport.is_read
        connection.tick(time.monotonic())
        assert not transport.is_read
        connection.resume_writing()
        assert transport.is_read


async def test_a_flood_on_one_connection_is_read_slowly() -> None:
    """Beyond what many probes send, a connection waits for its next half second; others do not."""
    async with served() as it, it.client() as (reader, writer):
        writer.write(GET * 1400)
        began = time.monotonic()
        answered = asyncio.create_task(take_answers(reader, 1400))
        while not answered.done():
            assert await it.status() == 200
            await asyncio.wait([answered], timeout=0.02)

        # 33,600 bytes, of which a connection may send 9,000 between two looks.
        assert time.monotonic() - began > 1.0


async def take_answers(reader: asyncio.StreamReader, count: int) -> None:
    for _ in range(count):
        await reader.readuntil(b"\r\n\r\n")
        await reader.readexactly(len(b'{"status": "ok"}'))


async def test_a_flood_of_frames_that_ask_for_nothing_is_cut_at_once() -> None:
    """No more of it is read, and nobody waits until the client has heard of it."""
    async with served() as it, it.client() as (reader, writer):
        writer.write(HTTP2_START + PING * 2000)
        with suppress(ConnectionResetError):
            while await reader.read(4096):
                pass

        assert await it.status() == 200


async def test_watchers_hear_of_changes() -> None:
    """Without asking, within the time between two looks."""
    async with served() as it, it.client() as (reader, writer):
        writer.write(HTTP2_START + watch_call())
        assert await next_data(reader) == b"\0\0\0\0\2\x08\1"
        it.told.tell(Phase.DRAINING, "draining")
        assert await next_data(reader) == b"\0\0\0\0\2\x08\2"


async def ask_without_end(writer: asyncio.StreamWriter) -> None:
    """Ask, and never read."""
    while True:
        writer.write(b"GET /metrics HTTP/1.1\r\n\r\n" * 100)
        await writer.drain()
        await asyncio.sleep(0)


async def test_who_watches_and_breaks_the_protocol_is_closed() -> None:
    """A watch holds no connection that is over."""
    async with served(linger=0.05) as it, it.client() as (reader, writer):
        writer.write(HTTP2_START + watch_call())
        await next_data(reader)
        # DATA on stream 0 (RFC 9113, 6.1).
        writer.write(frame(0, 0, 0, b""))
        await reader.read()

        with pytest.raises(ConnectionError):
            await ask_without_end(writer)


def watch_call() -> bytes:
    """A Watch of the whole on stream 1, its header fields literal (RFC 7541, 6.2.2)."""
    fields = {
        b":method": b"POST",
        b":scheme": b"http",
        b":path": b"/grpc.health.v1.Health/Watch",
        b":authority": b"x",
        b"content-type": b"application/grpc",
    }
    block = b"".join(
        b"\0" + bytes([len(name)]) + name + bytes([len(value)]) + value
        for name, value in fields.items()
    )
    return frame(1, 4, 1, block) + frame(0, 1, 1, bytes(5))


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    head = len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big")
    return head + payload


async def next_data(reader: asyncio.StreamReader) -> bytes:
    """The payload of the next DATA frame."""
    while True:
        head = await reader.readexactly(9)
        payload = await reader.readexactly(int.from_bytes(head[:3], "big"))
        if head[3] == 0:
            return payload

"""The listener of the health port: who is connected, for how long, and how much each may ask.

A connection reads a few kilobytes a turn, so that none holds up another; nothing is read from one
that does not take its answers; one that makes no progress is closed. At most `MAX_CONNECTIONS` are
open: for one more, the connection that has asked for nothing the longest is closed.
"""

import asyncio
import time
from socket import socket

from headrace.telemetry.health_http1 import Http1
from headrace.telemetry.health_http2 import PREFACE, Http2
from headrace.telemetry.health_view import HealthView

MAX_CONNECTIONS = 128
_BACKLOG = 64
_READ_BYTES = 4096
_TICK_SECONDS = 0.5
_PROGRESS_SECONDS = 5.0
"""For the first request, for the rest of one that has begun, for taking an answer."""
_IDLE_SECONDS = 120.0
"""Between requests: more than scrapes are apart."""
_LINGER_SECONDS = 1.0
"""For the client to close, behind a last answer."""


class Crowd:
    """All connections."""

    def __init__(self, view: HealthView) -> None:
        self.view = view
        self._members: set[Connection] = set()

    def enter(self, connection: "Connection") -> None:
        """One more, if need be instead of another."""
        if len(self._members) >= MAX_CONNECTIONS:
            min(self._members, key=_active_at).abort()
        self._members.add(connection)

    def leave(self, connection: "Connection") -> None:
        """One less."""
        self._members.discard(connection)

    def tick(self) -> None:
        """Close whom the time is over for; tell those who watch what has changed."""
        now = time.monotonic()
        for connection in list(self._members):
            connection.tick(now)


class Connection(asyncio.BufferedProtocol):
    """One connection, whose protocol its first bytes tell."""

    def __init__(self, crowd: Crowd) -> None:
        self._crowd = crowd
        self._buffer = bytearray(_READ_BYTES)
        self._first_bytes = b""
        self._speaker: Http1 | Http2 | None = None
        self._transport: asyncio.Transport | None = None
        self._is_paused = False
        self._is_over = False
        self.active_at = time.monotonic()
        """When it last got an answer, at first when it came; in seconds of the monotonic clock."""
        self._patience = _PROGRESS_SECONDS
        self._since = self.active_at

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        if not isinstance(transport, asyncio.Transport):
            raise TypeError("a stream is expected")
        self._transport = transport
        self._crowd.enter(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """End; `exc` is of no interest."""
        del exc
        self._transport = None
        self._crowd.leave(self)

    def get_buffer(self, sizehint: int) -> bytearray:
        """Where the next bytes go; the hint is not followed."""
        del sizehint
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Bytes have arrived."""
        if self._is_over:
            return
        data = bytes(self._buffer[:nbytes])
        if self._speaker is None:
            data = self._first_bytes = self._first_bytes + data
            if len(data) < len(PREFACE) and PREFACE.startswith(data):
                # It may become either.
                return
            is_http2 = data.startswith(PREFACE)
            self._speaker = Http2(self._crowd.view) if is_http2 else Http1(self._crowd.view)
        if isinstance(self._speaker, Http2):
            self._write(self._speaker.receive(data))
        else:
            self._speaker.feed(data)
        self._go_on()

    def pause_writing(self) -> None:
        """The client does not take what it asked for: nothing more is read from it."""
        self._is_paused = True
        self._expect_progress(_PROGRESS_SECONDS)
        if self._transport is not None:
            self._transport.pause_reading()

    def resume_writing(self) -> None:
        """It took it."""
        self._is_paused = False
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()
            self._go_on()

    def tick(self, now: float) -> None:
        """Close the connection where it makes no progress; tell what has changed."""
        if isinstance(self._speaker, Http2) and not self._is_paused:
            self._write(self._speaker.tell_changes())
            if self._speaker.is_watched:
                return
        if now - self._since > self._patience:
            if isinstance(self._speaker, Http2):
                self._write(self._speaker.close())
            self.abort() if self._is_paused or self._is_over else self._end()

    def abort(self) -> None:
        """Close at once."""
        if self._transport is not None:
            self._transport.abort()

    def _go_on(self) -> None:
        """Answer what can be answered, and set how long may pass until the next progress."""
        speaker = self._speaker
        while isinstance(speaker, Http1) and not self._is_paused:
            answer = speaker.next_answer()
            if answer is None:
                break
            self._write(answer)
        if speaker is None or self._is_paused:
            return
        if speaker.is_over:
            self._end()
        elif not speaker.is_waiting:
            self._expect_progress(_IDLE_SECONDS)
        elif self._patience == _IDLE_SECONDS:
            self._expect_progress(_PROGRESS_SECONDS)

    def _write(self, data: bytes) -> None:
        if data and self._transport is not None and not self._transport.is_closing():
            self.active_at = time.monotonic()
            self._transport.write(data)

    def _end(self) -> None:
        """Nothing follows: closing at once could take from the client what is on its way."""
        self._is_over = True
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write_eof()
            self._expect_progress(_LINGER_SECONDS)

    def _expect_progress(self, seconds: float) -> None:
        self._since = time.monotonic()
        self._patience = seconds


def _active_at(connection: Connection) -> float:
    return connection.active_at


async def serve_health(listener: socket, view: HealthView) -> None:
    """Answer whoever connects to `listener`, until cancelled."""
    crowd = Crowd(view)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(crowd), sock=listener, backlog=_BACKLOG)
    async with server:
        while True:
            await asyncio.sleep(_TICK_SECONDS)
            crowd.tick()

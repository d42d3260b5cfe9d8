"""The listener of the health port: who is connected, for how long, and how much each may ask.

From a connection little is read a turn and a second, so that none holds up another; nothing from
one that does not take its answers; one that makes no progress, or only noise, is closed. At most
`MAX_CONNECTIONS` are open: for one more, the connection that was answered the longest ago goes.
From an address few connections a second may be HTTP/2's, which is dear: whoever is cut and comes
back gains nothing by it.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from socket import socket

from headrace.telemetry.health_http1 import Http1
from headrace.telemetry.health_http2 import PREFACE, Http2
from headrace.telemetry.health_view import HealthView

MAX_CONNECTIONS = 128
BACKLOG = 1024
"""Connections that wait to be accepted: a probe behind a burst is not turned away."""
_ACCEPTS_A_TURN = 16
_READ_BYTES = 1024
_BYTES_A_TICK = 8192
"""What a connection may send between two ticks: dozens of probes."""
_TICK_SECONDS = 0.5
_HTTP2_ARRIVALS_A_TICK = 128


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a connection may make no progress, in seconds.

    `progress` is for the first request, for the rest of one that has begun, and for taking an
    answer; `idle` between requests, more than scrapes are apart; `linger` for the client to close,
    behind a last answer.
    """

    progress: float = 5.0
    idle: float = 120.0
    linger: float = 1.0


class Crowd:
    """All connections."""

    def __init__(self, view: HealthView, patience: Patience) -> None:
        self.view = view
        self.patience = patience
        self._members: set[Connection] = set()
        self._arrivals: Counter[str] = Counter()
        """Of HTTP/2, since the last tick, by address."""

    def admits_http2(self, transport: asyncio.Transport | None) -> bool:
        """Whether one more that speaks HTTP/2, which is dear, may come from its address now."""
        peer = None if transport is None else transport.get_extra_info("peername")
        address = peer[0] if peer else ""
        self._arrivals[address] += 1
        return self._arrivals[address] <= _HTTP2_ARRIVALS_A_TICK

    def enter(self, connection: "Connection") -> None:
        """One more, if need be instead of another."""
        if len(self._members) >= MAX_CONNECTIONS:
            min(self._members, key=_active_at).abort()
        self._members.add(connection)

    def leave(self, connection: "Connection") -> None:
        """One less."""
        self._members.discard(connection)

    def close(self) -> None:
        """Close all."""
        for connection in list(self._members):
            connection.abort()

    def tick(self) -> None:
        """Close whom the time is over for; tell those who watch what has changed."""
        now = time.monotonic()
        self._arrivals.clear()
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
        self._bytes_this_tick = 0
        self.active_at = time.monotonic()
        """When it last got an answer, at first when it came; in seconds of the monotonic clock."""
        self._seconds = crowd.patience.progress
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
        self._bytes_this_tick += nbytes
        self._read_or_rest()
        data = bytes(self._buffer[:nbytes])
        if self._speaker is None:
            data = self._first_bytes = self._first_bytes + data
            if len(data) < len(PREFACE) and PREFACE.startswith(data):
                # It may become either.
                return
            is_http2 = data.startswith(PREFACE)
            if is_http2 and not self._crowd.admits_http2(self._transport):
                self._is_over = True
                self.abort()
                return
            self._speaker = Http2(self._crowd.view) if is_http2 else Http1(self._crowd.view)
        if isinstance(self._speaker, Http2):
            self._write(self._speaker.receive(data))
            if self._speaker.is_flooded:
                self.abort()
        else:
            self._speaker.feed(data)
        self._go_on()

    def pause_writing(self) -> None:
        """The client does not take what it asked for: nothing more is read from it."""
        self._is_paused = True
        self._expect_progress(self._crowd.patience.progress)
        self._read_or_rest()

    def resume_writing(self) -> None:
        """It took it."""
        self._is_paused = False
        self._read_or_rest()
        self._go_on()

    def tick(self, now: float) -> None:
        """Close the connection where it makes no progress; tell what has changed."""
        self._bytes_this_tick = 0
        self._read_or_rest()
        if isinstance(self._speaker, Http2) and not (self._is_paused or self._is_over):
            self._speaker.tick()
            self._write(self._speaker.tell_changes())
            if self._speaker.is_watched:
                return
        if now - self._since > self._seconds:
            if isinstance(self._speaker, Http2):
                self._write(self._speaker.close())
            self.abort() if self._is_paused or self._is_over else self._end()

    def abort(self) -> None:
        """Close at once."""
        if self._transport is not None:
            self._transport.abort()

    def _go_on(self) -> None:
        """Answer what can be answered, and set how long may pass until the next progress."""
        speaker, patience = self._speaker, self._crowd.patience
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
            self._expect_progress(patience.idle)
        elif self._seconds == patience.idle:
            self._expect_progress(patience.progress)

    def _write(self, data: bytes) -> None:
        if data and self._transport is not None and not self._transport.is_closing():
            self.active_at = time.monotonic()
            self._transport.write(data)

    def _end(self) -> None:
        """Nothing follows: closing at once could take from the client what is on its way."""
        self._is_over = True
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write_eof()
            self._expect_progress(self._crowd.patience.linger)

    def _expect_progress(self, seconds: float) -> None:
        self._since = time.monotonic()
        self._seconds = seconds

    def _read_or_rest(self) -> None:
        """Read on, unless the client takes no answers or has sent enough for now."""
        if self._transport is None or self._transport.is_closing():
            return
        if self._is_paused or self._bytes_this_tick > _BYTES_A_TICK:
            self._transport.pause_reading()
        else:
            self._transport.resume_reading()


def _active_at(connection: Connection) -> float:
    return connection.active_at


async def serve_health(
    listener: socket,
    view: HealthView,
    patience: Patience | None = None,
    on_tick: Callable[[], None] = lambda: None,
) -> None:
    """Answer whoever connects to `listener`, until cancelled; `on_tick` is called all the while."""
    crowd = Crowd(view, patience or Patience())
    loop = asyncio.get_running_loop()
    server = await loop.create_server(
        lambda: Connection(crowd), sock=listener, backlog=_ACCEPTS_A_TURN
    )
    # The loop takes the backlog for how many connections to accept in one turn, too.
    listener.listen(BACKLOG)
    async with server:
        try:
            while True:
                on_tick()
                await asyncio.sleep(_TICK_SECONDS)
                crowd.tick()
        finally:
            crowd.close()

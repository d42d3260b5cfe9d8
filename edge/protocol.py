"""aiohttp's protocol of one connection, with four additions.

What is no HTTP at all is answered in the envelope too. A peer that leaves more than the high-water
mark unread, and does not read down to the low-water mark in time, is dropped, whatever it was sent;
one that leaves less unread, or is gone without a word, is dropped by the kernel after that time. A
peer that pipelines more than is buffered behind a request at work is not read from, so that its
leaving would go unnoticed: it is dropped likewise. A stream that writes to the transport itself
hears at once when the peer is too slow or gone, so that it need not ask before each write.
"""

import asyncio
import fcntl
import socket
import struct
import sys
import termios
from typing import Any, Protocol, cast

import structlog
from aiohttp import web

from edge.replies import error_reply
from edge.settings import StreamingSettings
from headrace.common.v1 import errors_pb2
from headrace.rpc.errors import ServiceError

_log = structlog.get_logger()
_IS_LINUX = sys.platform == "linux"
# On, with no time: closing discards what is unsent and resets the connection.
_NO_LINGER = struct.pack("ii", 1, 0)


class TransportWatcher(Protocol):
    """Hears what becomes of the transport; neither call may block or raise."""

    def on_paused(self) -> None:
        """The peer is too slow: the buffer is above its high-water mark."""

    def on_lost(self) -> None:
        """The connection is gone."""


class EdgeProtocol(web.RequestHandler):
    """One connection. `watcher` is set while a stream writes to the transport itself."""

    __slots__ = (
        "_connection",
        "_overfull_timer",
        "_settings",
        "_stall_timer",
        "gone",
        "was_dropped",
        "watcher",
    )

    def __init__(self, manager: web.Server, settings: StreamingSettings, **kwargs: Any) -> None:
        super().__init__(manager, **kwargs)
        self._settings = settings
        self._stall_timer: asyncio.TimerHandle | None = None
        self._overfull_timer: asyncio.TimerHandle | None = None
        # aiohttp's own reference is gone once it has closed, with bytes perhaps still unsent.
        self._connection: asyncio.Transport | None = None
        self.watcher: TransportWatcher | None = None
        self.gone = asyncio.Event()
        """Set when the connection is closed, and all that was written has left this process."""
        self.was_dropped = False
        """Whether the peer was dropped from this side, for being too slow."""

    @property
    def max_held_bytes(self) -> int:
        """What a stream may hold back beside its text while its peer is slow; then `reset` it."""
        return self._settings.max_held_bytes

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by the transport, once."""
        self._connection = cast(asyncio.Transport, transport)
        self._connection.set_write_buffer_limits(
            high=self._settings.high_water_bytes, low=self._settings.low_water_bytes
        )
        _bound_acknowledgement(transport, self._settings.stall_timeout_seconds)
        super().connection_made(transport)

    def data_received(self, data: bytes) -> None:
        """Called by the transport; by aiohttp too, to parse what it has kept."""
        if self._overfull_timer is not None:
            self._overfull_timer.cancel()
            self._overfull_timer = None
        super().data_received(data)
        if self._connection is not None and not self._connection.is_reading():
            seconds = self._settings.stall_timeout_seconds
            self._overfull_timer = asyncio.get_running_loop().call_later(seconds, self._drop_full)

    def _drop_full(self) -> None:
        """Nothing has been read since the timer was set, unless reading just goes on."""
        self._overfull_timer = None
        if self._connection is not None and not self._connection.is_reading():
            _log.info("connection_overfull")
            self.reset()

    def pause_writing(self) -> None:
        """The buffer is above its high-water mark; perhaps from within a write."""
        super().pause_writing()
        loop = asyncio.get_running_loop()
        self._stall_timer = loop.call_later(self._settings.stall_timeout_seconds, self.reset)
        if self.watcher is not None:
            self.watcher.on_paused()

    def resume_writing(self) -> None:
        """The buffer is below its low-water mark."""
        self._end_stall()
        super().resume_writing()

    def connection_lost(self, exc: BaseException | None) -> None:
        """Called by the transport, once."""
        self._end_stall()
        if self._overfull_timer is not None:
            self._overfull_timer.cancel()
        if isinstance(exc, TimeoutError):
            # The kernel's bound on what is not acknowledged, which is ours.
            self.was_dropped = True
        self._connection = None
        self.gone.set()
        if self.watcher is not None:
            self.watcher.on_lost()
        super().connection_lost(exc)

    def _end_stall(self) -> None:
        if self._stall_timer is not None:
            self._stall_timer.cancel()
            self._stall_timer = None

    @property
    def has_unsent(self) -> bool:
        """Whether bytes wait in this process until the peer reads; the end of that tells nobody."""
        connection = self._connection
        if connection is None:
            return False
        if connection.get_write_buffer_size() > 0:
            return True
        # Below TLS is one more buffer, out of sight: it is empty where the kernel's is.
        has_tls = connection.get_extra_info("sslcontext") is not None
        return has_tls and _IS_LINUX and _kernel_bytes(connection, termios.TIOCOUTQ) > 0

    @property
    def has_waiting(self) -> bool:
        """Whether a request has been read that nobody answers yet."""
        return bool(self._messages)

    def close_idle(self) -> None:
        """Close the connection in order, unless a request is on it or bytes of one have come."""
        connection = self._connection
        # aiohttp's own word for it: it waits for a request, and none has woken it.
        is_idle = self._waiter is not None and not self._waiter.done()
        if connection is None or connection.is_closing() or not is_idle:
            return
        if not _kernel_bytes(connection, termios.FIONREAD):
            connection.close()

    def reset(self) -> None:
        """Drop the connection with all that is unsent, in the kernel's buffer too."""
        if self._connection is not None:
            self.was_dropped = True
            sock = self._connection.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
            self._connection.abort()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """The response to what never reached a handler, or left one in an unforeseen way."""
        if isinstance(exc, ConnectionError):
            raise exc
        if exc is not None and status >= 500:
            # Not even the error boundary held it: the log is all that will tell.
            _log.error("request_crashed", exc_info=exc)
        if request.writer.output_size > 0:
            raise ConnectionResetError("the response has begun already") from exc
        error = _protocol_error(status, message)
        _log.info("request_malformed", status=status, reason=error.label)
        response = error_reply(request, error)
        response.force_close()
        return response

    def log_exception(self, *_args: Any, **kwargs: Any) -> None:
        """Log without the connection's bytes."""
        error = kwargs.get("exc_info", True)
        if isinstance(error, web.RequestPayloadError):
            # The rest of a body that was refused: the peer's fault, and nobody waits for it.
            _log.info("body_malformed")
        else:
            _log.error("connection_crashed", exc_info=error)


def _bound_acknowledgement(transport: asyncio.BaseTransport, seconds: float) -> None:
    """Have the kernel end a connection whose peer takes none of what was sent for so long."""
    if _IS_LINUX:
        sock = transport.get_extra_info("socket")
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(seconds * 1000))


def _kernel_bytes(transport: asyncio.BaseTransport, direction: int) -> int:
    """What the kernel keeps of a connection: FIONREAD, of the peer's; TIOCOUTQ, for the peer."""
    count = bytearray(struct.calcsize("i"))
    fcntl.ioctl(transport.get_extra_info("socket").fileno(), direction, count)
    return int.from_bytes(count, sys.byteorder)


def _protocol_error(status: int, message: str | None) -> ServiceError:
    if status < 500:
        # What stands behind the first colon quotes what was received.
        detail = (message or "malformed request").strip().split(":")[0].rstrip(". ")
        return ServiceError(
            errors_pb2.ERROR_REASON_INVALID_REQUEST,
            f"The HTTP request could not be parsed: {detail}.",
        )
    return ServiceError(
        errors_pb2.ERROR_REASON_ENGINE_FAILURE,
        "The server had an error while processing your request.",
    )

"""aiohttp's protocol of one connection, with two additions.

What is no HTTP at all is answered in the envelope too, and a stream that writes to the transport
itself hears at once when the peer is too slow or gone, so that it need not ask before each write.
"""

import socket
import struct
from typing import Any, Protocol

import structlog
from aiohttp import web

from edge.replies import error_reply
from headrace.common.v1 import errors_pb2
from headrace.rpc.errors import ServiceError

_log = structlog.get_logger()
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

    __slots__ = ("watcher",)

    def __init__(self, manager: web.Server, **kwargs: Any) -> None:
        super().__init__(manager, **kwargs)
        self.watcher: TransportWatcher | None = None

    def pause_writing(self) -> None:
        """Called by the transport, perhaps from within a write."""
        super().pause_writing()
        if self.watcher is not None:
            self.watcher.on_paused()

    def connection_lost(self, exc: BaseException | None) -> None:
        """Called by the transport, once."""
        if self.watcher is not None:
            self.watcher.on_lost()
        super().connection_lost(exc)

    def reset(self) -> None:
        """Drop the connection with all that is unsent, in the kernel's buffer too."""
        if self.transport is not None:
            sock = self.transport.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
            self.transport.abort()

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
        if request.writer.output_size > 0:
            raise ConnectionResetError("the response has begun already") from exc
        response = error_reply(request, _protocol_error(status, message))
        response.force_close()
        return response

    def log_exception(self, *_args: Any, **kwargs: Any) -> None:
        """Log without the connection's bytes."""
        _log.error("connection_crashed", exc_info=kwargs.get("exc_info", True))


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

"""The listener: sockets, TLS, and the protocol that answers what is no HTTP at all.

The end of a server's life, in order: `drain` (not ready, no new connections, what runs may finish,
what is left at the end of the grace gets an error), then `close`.
"""

import asyncio
import ssl
from typing import Any

import structlog
from aiohttp import web

from edge.app import build_app
from edge.replies import error_reply
from edge.service_state import ServiceState
from edge.settings import EdgeSettings, ServerSettings
from headrace.client.answers import ChatBackend
from headrace.common.v1 import errors_pb2
from headrace.rpc.errors import ServiceError
from headrace.runtime.errors import StartError

_BACKLOG = 4096
_CUT_SECONDS = 2.0
_log = structlog.get_logger()


class EnvelopeProtocol(web.RequestHandler):
    """aiohttp's protocol, whose own errors come in the envelope too."""

    __slots__ = ()

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
        # The later lines quote what was received.
        detail = (message or "malformed request").strip().splitlines()[0].rstrip(":. ")
        return ServiceError(
            errors_pb2.ERROR_REASON_INVALID_REQUEST,
            f"The HTTP request could not be parsed: {detail}.",
        )
    return ServiceError(
        errors_pb2.ERROR_REASON_ENGINE_FAILURE,
        "The server had an error while processing your request.",
    )


class EdgeServer:
    """One listening edge."""

    def __init__(self, settings: EdgeSettings, backend: ChatBackend) -> None:
        self._settings = settings.server
        self._state = ServiceState()
        self._runner = web.AppRunner(
            build_app(backend, settings, self._state),
            handler_cancellation=True,
            access_log=None,
            shutdown_timeout=_CUT_SECONDS,
        )
        self._listener: asyncio.Server | None = None

    @property
    def port(self) -> int:
        """The port that is listened on; valid after `start`."""
        if self._listener is None:
            raise RuntimeError("the server is not started")
        port: int = self._listener.sockets[0].getsockname()[1]
        return port

    async def start(self) -> None:
        """Listen. Raises StartError: address taken or invalid, TLS files unusable."""
        settings = self._settings
        tls = tls_context(settings)
        await self._runner.setup()
        loop = asyncio.get_running_loop()
        try:
            self._listener = await loop.create_server(
                self._protocol, settings.host, settings.port, ssl=tls, backlog=_BACKLOG
            )
        except OSError as error:
            await self._runner.cleanup()
            raise StartError(
                f"cannot listen on {settings.host} port {settings.port}: {error.strerror or error}"
            ) from error

    def _protocol(self) -> asyncio.BaseProtocol:
        server = self._runner.server
        if server is None:
            raise ConnectionResetError("the server is closed")
        return EnvelopeProtocol(
            server,
            loop=asyncio.get_running_loop(),
            keepalive_timeout=self._settings.keepalive_timeout_seconds,
            access_log=None,  # type: ignore[arg-type] # None switches it off
        )

    async def drain(self) -> None:
        """Take nothing new; return when nothing runs, at the latest shortly after the grace."""
        self._state.is_draining = True
        if self._listener is not None:
            self._listener.close()
        if not await self._state.until_idle(self._settings.drain_grace_seconds):
            self._state.cut()
            await self._state.until_idle(_CUT_SECONDS)

    async def close(self) -> None:
        """Free the port and all connections."""
        if self._listener is not None:
            self._listener.close()
        await self._runner.cleanup()


def tls_context(settings: ServerSettings) -> ssl.SSLContext | None:
    """The TLS context that the settings ask for. Raises StartError for unusable files."""
    certificate, key = settings.tls_certificate_file, settings.tls_key_file
    if certificate is None or key is None:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        context.load_cert_chain(certificate, key)
    except (OSError, ssl.SSLError) as error:
        raise StartError(f"TLS files {certificate} and {key} cannot be used: {error}") from error
    return context

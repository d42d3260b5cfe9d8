"""The listener: sockets, TLS, and the end of both.

The end of a server's life, in order: `drain` (not ready, no new connections, what runs may finish,
what is left at the end of the grace gets an error), then `close`.
"""

import asyncio
import ssl

from aiohttp import web

from edge.app import build_app
from edge.protocol import EdgeProtocol
from edge.service_state import ServiceState
from edge.settings import EdgeSettings, ServerSettings
from headrace.client.answers import ChatBackend
from headrace.runtime.errors import StartError

_BACKLOG = 4096
_CUT_SECONDS = 2.0


class EdgeServer:
    """One listening edge."""

    def __init__(self, settings: EdgeSettings, backend: ChatBackend) -> None:
        self._settings = settings.server
        self._streaming = settings.streaming
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
        return EdgeProtocol(
            server,
            self._streaming,
            loop=asyncio.get_running_loop(),
            keepalive_timeout=self._settings.keepalive_timeout_seconds,
            access_log=None,
            # See content_encoding.py.
            auto_decompress=False,
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

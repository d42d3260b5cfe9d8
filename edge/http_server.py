"""The listeners: sockets, TLS, and the end of both.

The end of a server's life, in order: `leave` (not ready, while whoever sends requests notices it),
`drain` (no new connections, idle ones are closed, what runs may finish, what is left at the end of
the grace gets an error), then `close`. From `leave` on a connection ends with its answer.
"""

import asyncio
import ssl

from aiohttp import web

from edge.app import build_app
from edge.metrics import EdgeMetrics
from edge.protocol import EdgeProtocol
from edge.readiness import Readiness
from edge.service_state import ServiceState
from edge.settings import EdgeSettings
from edge.tls import listening_context
from headrace.client.answers import ChatBackend
from headrace.runtime.errors import StartError
from headrace.runtime.identity import Identity
from headrace.telemetry.service import Telemetry

_BACKLOG = 4096
_CUT_SECONDS = 2.0


class EdgeServer:
    """One listening edge."""

    def __init__(
        self,
        settings: EdgeSettings,
        backend: ChatBackend,
        telemetry: Telemetry[EdgeMetrics] | None = None,
    ) -> None:
        telemetry = telemetry or Telemetry(EdgeMetrics(Identity()))
        self._settings = settings.server
        self._streaming = settings.streaming
        self._state = ServiceState()
        self.readiness = Readiness(backend, self._state)
        """What probes are told."""
        self._runner = web.AppRunner(
            build_app(backend, settings, self._state, self.readiness, telemetry),
            handler_cancellation=True,
            access_log=None,
            shutdown_timeout=_CUT_SECONDS,
        )
        self._listeners: list[asyncio.Server] = []

    @property
    def port(self) -> int:
        """The first port that is listened on; valid after `start`."""
        if not self._listeners:
            raise RuntimeError("the server is not started")
        return _port_of(self._listeners[0])

    @property
    def tls_port(self) -> int | None:
        """The port that speaks TLS, if any does; valid after `start`."""
        if self._settings.tls_certificate_file is None:
            return None
        return _port_of(self._listeners[-1])

    async def start(self) -> None:
        """Listen. Raises StartError: address taken or invalid, TLS files unusable."""
        settings = self._settings
        tls = listening_context(settings)
        await self._runner.setup()
        if settings.tls_port is None:
            await self._listen(settings.port, tls)
        else:
            await self._listen(settings.port, None)
            await self._listen(settings.tls_port, tls)

    async def _listen(self, port: int, tls: ssl.SSLContext | None) -> None:
        host = self._settings.host
        # TLS's own waits: for a handshake, and for a peer to take what is left when it is closed.
        handshake = None if tls is None else self._settings.keepalive_timeout_seconds
        farewell = None if tls is None else self._streaming.stall_timeout_seconds
        try:
            listener = await asyncio.get_running_loop().create_server(
                self._protocol,
                host,
                port,
                ssl=tls,
                backlog=_BACKLOG,
                ssl_handshake_timeout=handshake,
                ssl_shutdown_timeout=farewell,
            )
        except OSError as error:
            await self.close()
            raise StartError(
                f"cannot listen on {host} port {port}: {error.strerror or error}"
            ) from error
        self._listeners.append(listener)

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

    async def leave(self) -> None:
        """Say that it is not ready, and serve what comes until the delay is over."""
        self._state.is_leaving = True
        await asyncio.sleep(self._settings.drain_delay_seconds)

    async def drain(self) -> None:
        """Take nothing new; return when nothing runs, at the latest shortly after the grace."""
        self._state.is_leaving = self._state.is_draining = True
        self._close_listeners()
        self._close_idle()
        if not await self._state.until_idle(self._settings.drain_grace_seconds):
            self._state.cut()
            await self._state.until_idle(_CUT_SECONDS)

    async def close(self) -> None:
        """Free the port and all connections."""
        self._close_listeners()
        await self._runner.cleanup()

    def _close_idle(self) -> None:
        """Close what nothing is asked on: the client's next request had to be refused there."""
        server = self._runner.server
        for connection in () if server is None else server.connections:
            if isinstance(connection, EdgeProtocol):
                connection.close_idle()

    def _close_listeners(self) -> None:
        for listener in self._listeners:
            listener.close()


def _port_of(listener: asyncio.Server) -> int:
    port: int = listener.sockets[0].getsockname()[1]
    return port

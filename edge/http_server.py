"""The listeners: sockets, TLS, and the end of both.

The end of a server's life, in order: `leave` (not ready, while whoever sends requests notices it),
`drain` (no new connections, idle ones are closed, what runs may finish and be read, what is left at
the end of the grace gets an error), then `close`. From `leave` on a connection ends with its
answer. What has reached a connection is answered, also in the moment in which the drain begins.
"""

import asyncio
import ssl
from collections.abc import Sequence
from contextlib import suppress

import structlog
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

_log = structlog.get_logger()

_BACKLOG = 4096
_CUT_SECONDS = 2.0
_LOOK_SECONDS = 0.02
"""Between two looks at what slow readers have left."""
_ARRIVAL_TURNS = 8
"""Of the loop, in which what has come is read and parsed, and its handler begins; four are used."""


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
        self._state.is_leaving = True
        self._close_listeners()
        await self._take_arrived()
        self._state.is_draining = True
        if not await self._until_idle(self._settings.drain_grace_seconds):
            self._state.cut()
            await self._until_idle(_CUT_SECONDS)
        num_unread = sum(each.has_unsent for each in self._connections)
        if num_unread:
            # Their requests were told of as served.
            _log.warning("answers_unread", connections=num_unread)

    async def close(self) -> None:
        """Free the port and all connections."""
        self._close_listeners()
        await self._runner.cleanup()

    async def _until_idle(self, seconds: float) -> bool:
        """Wait until nothing runs and nothing more has come; False when the time ran out first."""
        try:
            async with asyncio.timeout(seconds):
                while True:
                    await self._state.until_idle(seconds)
                    # A request may have waited behind the last one on its connection.
                    await self._take_arrived()
                    if self._state.is_idle:
                        await self._until_sent()
                        break
        except TimeoutError:
            return False
        # TLS ends by the peer's word, and a body that nobody wanted by its last byte.
        with suppress(TimeoutError):
            async with asyncio.timeout(_CUT_SECONDS):
                for connection in self._connections:
                    await connection.gone.wait()
        return True

    async def _until_sent(self) -> None:
        while any(each.has_unsent for each in self._connections):  # noqa: ASYNC110 (nobody tells)
            await asyncio.sleep(_LOOK_SECONDS)

    async def _take_arrived(self) -> None:
        """Let what has come begin to be answered, and close the connections that have nothing."""
        for _ in range(_ARRIVAL_TURNS):
            self._close_idle()
            await asyncio.sleep(0)

    def _close_idle(self) -> None:
        """Close what nothing is asked on: the client's next request had to be refused there."""
        for connection in self._connections:
            connection.close_idle()

    @property
    def _connections(self) -> Sequence[EdgeProtocol]:
        server = self._runner.server
        found = () if server is None else server.connections
        return [each for each in found if isinstance(each, EdgeProtocol)]

    def _close_listeners(self) -> None:
        for listener in self._listeners:
            listener.close()


def _port_of(listener: asyncio.Server) -> int:
    port: int = listener.sockets[0].getsockname()[1]
    return port

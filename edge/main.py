"""The edge process: starts, serves until told to stop, drains, closes everything in order."""

import asyncio
import ipaddress
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TypeAlias

import structlog

from edge.http_server import EdgeServer
from edge.settings import BackendSettings, EdgeSettings, ServerSettings
from headrace.client.answers import ChatBackend
from headrace.client.backend import GrpcChatBackend
from headrace.rpc.limits import FrameTiming
from headrace.runtime.errors import StartError

OpenBackend: TypeAlias = Callable[[BackendSettings], AbstractAsyncContextManager[ChatBackend]]
_log = structlog.get_logger()


async def run(settings: EdgeSettings, stop: asyncio.Event) -> None:
    """Serve the workers and tokenizers of the settings until `stop` is set. Raises StartError."""
    await serve(settings, stop, open_grpc_backend)


@asynccontextmanager
async def open_grpc_backend(settings: BackendSettings) -> AsyncIterator[ChatBackend]:
    """The real backend; connecting goes on behind, `is_ready` tells when it may be used."""
    timing = FrameTiming(
        heartbeat_seconds=settings.heartbeat_seconds, silence_seconds=settings.silence_seconds
    )
    backend = GrpcChatBackend(settings.worker_addresses, settings.tokenizer_addresses, timing)
    await backend.start()
    try:
        yield backend
    finally:
        await backend.stop()


async def serve(
    settings: EdgeSettings,
    stop: asyncio.Event,
    open_backend: OpenBackend,
    on_listening: Callable[[int], None] | None = None,
) -> None:
    """Serve until `stop` is set; `on_listening` hears the port. Raises StartError."""
    check_exposure(settings.server)
    async with open_backend(settings.backend) as backend:
        server = EdgeServer(settings, backend)
        await server.start()
        try:
            _log.info("edge_listening", host=settings.server.host, port=server.port)
            if on_listening is not None:
                on_listening(server.port)
            await stop.wait()
            _log.info("edge_draining")
            await server.drain()
        finally:
            await server.close()
    _log.info("edge_stopped")


def check_exposure(settings: ServerSettings) -> None:
    """Raise StartError for an address that others can reach, unless that is wanted."""
    if settings.insecure or settings.host == "localhost":
        return
    try:
        is_loopback = ipaddress.ip_address(settings.host).is_loopback
    except ValueError:
        is_loopback = False
    if not is_loopback:
        raise StartError(
            f"the edge has no API keys, so it listens on loopback only, not on {settings.host}; "
            "set server.insecure to allow it"
        )

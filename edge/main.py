"""The edge process: starts, serves until told to stop, drains, closes everything in order."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TypeAlias

import structlog

from edge.http_server import EdgeServer
from edge.metrics import EdgeMetrics
from edge.settings import AdmissionSettings, BackendSettings, EdgeSettings
from headrace.client.answers import ChatBackend
from headrace.client.backend import GrpcChatBackend
from headrace.client.resolver import NameLookup
from headrace.rpc.bearer import OwnKeyFile
from headrace.rpc.credentials import PeerCredentials
from headrace.rpc.limits import FrameTiming
from headrace.runtime.identity import Identity
from headrace.runtime.listening import require_loopback, warn_of_clear_text
from headrace.runtime.open_files import open_files_limit
from headrace.telemetry.health_port import open_health
from headrace.telemetry.health_report import HealthReport
from headrace.telemetry.service import Telemetry, open_telemetry

EdgeTelemetry: TypeAlias = Telemetry[EdgeMetrics]
OpenBackend: TypeAlias = Callable[
    [BackendSettings, EdgeTelemetry], AbstractAsyncContextManager[ChatBackend]
]
_log = structlog.get_logger()


async def run(settings: EdgeSettings, stop: asyncio.Event) -> None:
    """Serve the workers and tokenizers of the settings until `stop` is set. Raises StartError."""
    await serve(settings, stop, open_grpc_backend)


@asynccontextmanager
async def open_grpc_backend(
    settings: BackendSettings,
    telemetry: EdgeTelemetry,
) -> AsyncIterator[ChatBackend]:
    """The real backend; connecting goes on behind, `is_ready` tells when it may be used."""
    timing = FrameTiming(
        heartbeat_seconds=settings.heartbeat_seconds, silence_seconds=settings.silence_seconds
    )
    own_key = None if settings.api_key_file is None else OwnKeyFile(settings.api_key_file)
    credentials = PeerCredentials(settings.tls, own_key)
    backend = GrpcChatBackend(
        settings.worker_addresses,
        settings.tokenizer_addresses,
        timing,
        credentials,
        telemetry.tracing,
        NameLookup(every_seconds=settings.resolve_seconds),
    )
    telemetry.metrics.watch_peers(lambda: backend.figures)
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
    server_settings = settings.server
    host = server_settings.host
    require_loopback(
        "edge.server",
        host,
        insecure=server_settings.insecure,
        checks_callers=settings.keys.file is not None,
    )
    uses_tls = server_settings.tls_certificate_file is not None and server_settings.tls_port is None
    warn_of_clear_text("edge.server", host, uses_tls=uses_tls)
    metrics = EdgeMetrics(Identity(), settings.telemetry.tracing.provider_name)
    health = HealthReport(metrics.render)
    async with (
        open_health(settings.telemetry.health, health),
        open_telemetry(settings.telemetry, metrics) as telemetry,
        open_backend(settings.backend, telemetry) as backend,
    ):
        server = EdgeServer(settings, backend, telemetry)
        await server.start()
        try:
            _log.info(
                "edge_listening",
                host=server_settings.host,
                port=server.port,
                tls_port=server.tls_port,
            )
            _check_open_files(settings.admission)
            if on_listening is not None:
                on_listening(server.port)
            health.serve(lambda: server.readiness.problem)
            await stop.wait()
            health.drain()
            await server.leave()
            _log.info("edge_draining")
            await server.drain()
        finally:
            await server.close()
    _log.info("edge_stopped")


def _check_open_files(settings: AdmissionSettings) -> None:
    """Warn of a limit below what is admitted: connections beyond it are closed without a word."""
    wanted = settings.max_concurrent_requests + settings.max_queued_requests
    limit = open_files_limit()
    if limit <= wanted:
        _log.warning("open_files_limit_low", limit=limit, admitted_requests=wanted)

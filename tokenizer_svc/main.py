"""The tokenizer process: models behind one gRPC server."""

import asyncio

import structlog

from headrace.access.grpc_authentication import KeyGate
from headrace.access.key_ring import open_key_ring, watched
from headrace.models.cache import resolve_model
from headrace.models.directory import open_model_directory
from headrace.models.settings import ModelsSettings
from headrace.rpc.limits import FrameTiming
from headrace.rpc.server import LAST_WORDS_SECONDS, GrpcServer
from headrace.runtime.errors import StartError
from headrace.runtime.identity import Identity
from headrace.runtime.listening import require_loopback, warn_of_clear_text
from headrace.telemetry.health_port import open_health
from headrace.telemetry.health_report import HealthReport
from headrace.telemetry.service import Telemetry, open_telemetry
from headrace.tokenizer.v1.service_pb2 import DESCRIPTOR
from headrace.tokenizer.v1.service_pb2_grpc import add_TokenizerServiceServicer_to_server
from tokenizer_svc.call_watch import call_hook
from tokenizer_svc.encoding_pool import EncodingPool
from tokenizer_svc.formats.catalog import FormatCatalog
from tokenizer_svc.metrics import TokenizerMetrics
from tokenizer_svc.registry import ModelRegistry, TokenizerModel
from tokenizer_svc.servicer import TokenizerServicer
from tokenizer_svc.settings import TokenizerSettings

_log = structlog.get_logger(__name__)
_SERVICE = DESCRIPTOR.services_by_name["TokenizerService"].full_name


def load_models(settings: TokenizerSettings, models: ModelsSettings) -> ModelRegistry:
    """Read all models; takes about a second each. Raises StartError."""
    folders = [resolve_model(name, models.cache_dir) for name in settings.models]
    directories = [open_model_directory(folder) for folder in folders]
    unknown = settings.output_formats.keys() - {directory.name for directory in directories}
    if unknown:
        raise StartError(f"output_formats names models that are not served: {sorted(unknown)}")
    return ModelRegistry(
        [TokenizerModel.load(directory, settings) for directory in directories],
        FormatCatalog.installed(),
    )


async def run(
    settings: TokenizerSettings, stop: asyncio.Event, models: ModelsSettings | None = None
) -> None:
    """Serve until `stop` is set, then drain. Raises StartError for what prevents a start."""
    require_loopback(
        "tokenizer",
        settings.host,
        insecure=settings.insecure,
        checks_callers=settings.tls.checks_clients or settings.keys.file is not None,
    )
    warn_of_clear_text("tokenizer", settings.host, uses_tls=settings.tls.is_on)
    metrics = TokenizerMetrics(Identity())
    health = HealthReport(metrics.render)
    async with (
        open_health(settings.telemetry.health, health, [_SERVICE]),
        open_telemetry(settings.telemetry, metrics) as telemetry,
    ):
        await _serve(settings, stop, models or ModelsSettings(), telemetry, health)


async def _serve(
    settings: TokenizerSettings,
    stop: asyncio.Event,
    models: ModelsSettings,
    telemetry: Telemetry[TokenizerMetrics],
    health: HealthReport,
) -> None:
    identity = telemetry.metrics.identity
    keys = open_key_ring(settings.keys)
    gate = KeyGate(keys, telemetry.metrics.on_key_refused)
    interceptors = [call_hook(telemetry), *gate.interceptors]
    server = GrpcServer(
        settings.host, settings.port, [_SERVICE], tls=settings.tls, interceptors=interceptors
    )
    limits = settings.limits
    pool = EncodingPool(settings.threads, limits.max_pending_encodings, limits.long_text_characters)
    try:
        registry = await asyncio.to_thread(load_models, settings, models)
        timing = FrameTiming(
            heartbeat_seconds=settings.heartbeat_seconds, silence_seconds=settings.silence_seconds
        )
        servicer = TokenizerServicer(registry, pool, limits, identity, timing, gate)
        telemetry.metrics.watch(servicer.activity, pool)
        server.add(add_TokenizerServiceServicer_to_server, servicer)
        await server.serve()
        _log.info(
            "tokenizer_serving",
            host=settings.host,
            port=server.port,
            models=registry.names,
            instance_id=identity.instance_id,
        )
        async with watched(keys, settings.keys):
            health.serve()
            await stop.wait()
            health.drain()
            await server.not_serving()
            await asyncio.sleep(settings.drain_delay_seconds)
            await _drain(server, servicer, settings.drain_grace_seconds)
    finally:
        await server.stop(0)
        await asyncio.to_thread(pool.close)
    _log.info("tokenizer_stopped", port=server.port)


async def _drain(server: GrpcServer, servicer: TokenizerServicer, grace_seconds: float) -> None:
    activity = servicer.activity
    _log.info("tokenizer_draining", open_outputs=activity.open_outputs)
    if not await server.drain(servicer, grace_seconds):
        _log.warning("drain_grace_over", open_outputs=activity.open_outputs)
        servicer.cut()
        await server.stop(LAST_WORDS_SECONDS)

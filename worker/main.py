"""The worker process: one engine behind one gRPC server."""

import asyncio
from collections.abc import Callable, Coroutine

import structlog

from headrace.access.grpc_authentication import KeyGate
from headrace.access.key_ring import open_key_ring, watched
from headrace.models.cache import resolve_model
from headrace.models.directory import ModelDirectory, open_model_directory
from headrace.models.settings import ModelsSettings
from headrace.rpc.errors import ServiceError
from headrace.rpc.limits import FrameTiming
from headrace.rpc.server import LAST_WORDS_SECONDS, GrpcServer
from headrace.runtime.errors import StartError
from headrace.runtime.identity import Identity
from headrace.runtime.listening import require_loopback, warn_of_clear_text
from headrace.telemetry.health_port import open_health
from headrace.telemetry.health_report import HealthReport
from headrace.telemetry.service import Telemetry, open_telemetry
from headrace.worker.v1.service_pb2 import DESCRIPTOR
from headrace.worker.v1.service_pb2_grpc import add_GenerationServiceServicer_to_server
from worker.engine.paced import PacedEngine
from worker.engine.seam import Engine
from worker.engine.tensorrt_llm.engine import TensorRtLlmEngine
from worker.engine.tensorrt_llm.library import open_library
from worker.load_figures import LoadFigures
from worker.metrics import WorkerMetrics
from worker.request_report import RequestReports
from worker.servicer import WorkerServicer
from worker.settings import WorkerSettings

_log = structlog.get_logger(__name__)
_SERVICE = DESCRIPTOR.services_by_name["GenerationService"].full_name


def make_engine(settings: WorkerSettings, model: ModelDirectory) -> Engine:
    """The engine that the settings name; its library is imported only here, when it is chosen.

    Raises StartError where TensorRT-LLM is chosen and missing.
    """
    if settings.engine == "paced":
        return PacedEngine(model, settings.paced)
    if settings.engine == "tensorrt_llm":
        # In the main thread: the library starts MPI when it is imported.
        return TensorRtLlmEngine(model, settings.tensorrt_llm, open_library())
    # OpenVINO takes a second to import, and the paced engine must run without it.
    from worker.engine.openvino.engine import OpenVinoEngine  # noqa: PLC0415

    return OpenVinoEngine(model, settings.openvino)


async def run(
    settings: WorkerSettings, stop: asyncio.Event, models: ModelsSettings | None = None
) -> None:
    """Serve until `stop` is set, then drain. Raises StartError: cannot start, or engine failed."""
    require_loopback(
        "worker",
        settings.host,
        insecure=settings.insecure,
        checks_callers=settings.tls.checks_clients or settings.keys.file is not None,
    )
    warn_of_clear_text("worker", settings.host, uses_tls=settings.tls.is_on)
    cache_dir = (models or ModelsSettings()).cache_dir
    health = HealthReport()
    async with open_health(settings.telemetry.health, health, [_SERVICE]):
        model = open_model_directory(resolve_model(settings.model, cache_dir))
        await serve(settings, make_engine(settings, model), stop, health=health)


async def serve(
    settings: WorkerSettings,
    engine: Engine,
    stop: asyncio.Event,
    on_listening: Callable[[int], None] | None = None,
    health: HealthReport | None = None,
) -> None:
    """Start `engine` and serve it as `run` does; `on_listening` is told the port."""
    health = health or HealthReport()
    metrics = WorkerMetrics(Identity(), settings.telemetry.tracing.provider_name)
    health.render = metrics.render
    async with open_telemetry(settings.telemetry, metrics) as telemetry:
        await _serve(settings, engine, telemetry, stop, on_listening, health)


async def _serve(
    settings: WorkerSettings,
    engine: Engine,
    telemetry: Telemetry[WorkerMetrics],
    stop: asyncio.Event,
    on_listening: Callable[[int], None] | None,
    health: HealthReport,
) -> None:
    timing = FrameTiming(
        heartbeat_seconds=settings.heartbeat_seconds, silence_seconds=settings.silence_seconds
    )
    keys = open_key_ring(settings.keys)
    gate = KeyGate(keys)
    unbounded = settings.keys.unbounded_answer_tokens
    identity = telemetry.metrics.identity
    reports = RequestReports(telemetry.tracing, telemetry.metrics)
    servicer = WorkerServicer(engine, identity, timing, gate, unbounded, reports)
    telemetry.metrics.registry.register(LoadFigures(engine, servicer.table))
    server = GrpcServer(
        settings.host, settings.port, [_SERVICE], tls=settings.tls, interceptors=gate.interceptors
    )
    server.add(add_GenerationServiceServicer_to_server, servicer)
    try:
        await engine.start()
    except ServiceError as error:
        raise StartError(f"the {settings.engine} engine cannot start: {error}") from error
    try:
        await server.serve()
        _log.info(
            "worker_serving",
            host=settings.host,
            port=server.port,
            model=engine.info.model,
            adapters=list(engine.info.adapters),
            engine=settings.engine,
            instance_id=identity.instance_id,
        )
        if on_listening is not None:
            on_listening(server.port)
        async with watched(keys, settings.keys):
            health.serve()
            failure = await _stop_or_failure(stop.wait(), engine)
            health.drain("draining" if failure is None else "the engine has failed")
            await server.not_serving()
            if failure is None:
                delay = asyncio.sleep(settings.drain_delay_seconds)
                failure = await _stop_or_failure(delay, engine)
        if failure is not None:
            # What ran has ended with the engine: its last frames go out, and nobody is kept.
            _log.error("engine_failed", engine=settings.engine, problem=failure.message)
            await _drain(server, servicer, LAST_WORDS_SECONDS)
            raise StartError(f"the worker ends: {failure.message}")
        await _drain(server, servicer, settings.drain_grace_seconds)
    finally:
        await server.stop(0)
        await engine.stop()
    _log.info("worker_stopped", port=server.port)


async def _stop_or_failure(
    stop: Coroutine[object, object, object], engine: Engine
) -> ServiceError | None:
    """Wait for either; None for `stop`."""
    stopping = asyncio.create_task(stop)
    failing = asyncio.create_task(engine.failed())
    try:
        await asyncio.wait({stopping, failing}, return_when=asyncio.FIRST_COMPLETED)
        return failing.result() if failing.done() else None
    finally:
        stopping.cancel()
        failing.cancel()


async def _drain(server: GrpcServer, servicer: WorkerServicer, grace_seconds: float) -> None:
    _log.info("worker_draining", running_requests=servicer.table.num_running)
    if not await server.drain(servicer, grace_seconds):
        _log.warning("drain_grace_over", running_requests=servicer.table.num_running)
        servicer.cut()
        # What was said last goes out first: an edge that has heard of the end counts no crash.
        await server.stop(LAST_WORDS_SECONDS)

"""The life of a worker process around its engine: drain, and an engine that fails for good."""

import asyncio
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from headrace.common.v1 import errors_pb2
from headrace.rpc.errors import ServiceError
from headrace.runtime.errors import StartError
from headrace.telemetry.health_page import Phase
from headrace.telemetry.health_report import HealthReport
from headrace.worker.v1.service_pb2_grpc import GenerationServiceStub
from tests.support.engines import ScriptedEngine
from tests.support.models import fake_model
from tests.support.raw_attach import RawAttach
from worker.engine.paced import PacedEngine
from worker.engine.paced_settings import PacedSettings
from worker.engine.seam import Engine, EngineEvents, EngineRequest
from worker.main import serve
from worker.settings import WorkerSettings

_SERVING = health_pb2.HealthCheckResponse.SERVING
_NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
_BROKEN = ServiceError(errors_pb2.ERROR_REASON_ENGINE_FAILURE, "The engine has failed: no memory.")


class _Process:
    """`serve` in a task, and a channel to it."""

    def __init__(self, engine: Engine, **settings: Any) -> None:
        self.stop = asyncio.Event()
        self.health = HealthReport()
        self._port: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        values = WorkerSettings(port=0, engine="paced", **settings)
        self.task = asyncio.create_task(
            serve(values, engine, self.stop, self._port.set_result, self.health)
        )

    async def channel(self) -> grpc.aio.Channel:
        return grpc.aio.insecure_channel(f"127.0.0.1:{await self._port}")


async def test_a_failed_engine_ends_the_process() -> None:
    """What runs fails, health says so, nothing new is taken, and one sentence ends the process."""
    engine = ScriptedEngine()
    process = _Process(engine)
    async with await process.channel() as channel:
        watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
        before = (await watch.read()).status
        raw = RawAttach(GenerationServiceStub(channel))
        await raw.submit(1)
        await raw.read_until("accepted_handles")
        engine.fail_for_good(_BROKEN)
        frames = await raw.read_until("terminals")
        after = (await watch.read()).status
        with pytest.raises(StartError) as ended:
            await asyncio.wait_for(process.task, 10)

    assert (before, after) == (_SERVING, _NOT_SERVING)
    assert frames[-1].terminals[0].failure.reason == errors_pb2.ERROR_REASON_ENGINE_FAILURE
    assert str(ended.value) == "the worker ends: The engine has failed: no memory."


async def test_a_request_to_stop_is_no_failure() -> None:
    """With an engine that works, `stop` ends the process in order."""
    process = _Process(ScriptedEngine())
    async with await process.channel() as channel:
        await channel.channel_ready()
    process.stop.set()

    await asyncio.wait_for(process.task, 10)


async def test_before_it_drains_a_worker_takes_what_comes() -> None:
    """For the delay it says that it is not ready, and works; the engine may fail meanwhile."""
    engine = ScriptedEngine()
    process = _Process(engine, drain_delay_seconds=300)
    async with await process.channel() as channel:
        watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
        before = (await watch.read()).status
        raw = RawAttach(GenerationServiceStub(channel))
        process.stop.set()
        after = (await watch.read()).status
        said = process.health.words
        await raw.submit(1)
        taken = (await raw.read_until("accepted_handles"))[-1]
        engine.fail_for_good(_BROKEN)
        with pytest.raises(StartError, match="no memory"):
            await asyncio.wait_for(process.task, 10)

    assert (before, after) == (_SERVING, _NOT_SERVING)
    assert said.phase == Phase.DRAINING
    assert not taken.header.draining


async def test_a_worker_drains_when_its_delay_is_over() -> None:
    """Then it says so to its edges, takes nothing new, and ends."""
    process = _Process(ScriptedEngine(), drain_delay_seconds=0.05)
    async with await process.channel() as channel:
        raw = RawAttach(GenerationServiceStub(channel))
        await raw.send()
        await raw.read()
        process.stop.set()
        frames = await raw.read_to_end()
        await asyncio.wait_for(process.task, 10)

    assert frames[-1].header.draining


async def test_what_the_process_says_of_its_health() -> None:
    """Starting, then ready, then why not."""
    for problem in ("draining", "the engine has failed"):
        engine = ScriptedEngine()
        process = _Process(engine)
        said = [process.health.words]
        async with await process.channel() as channel:
            await channel.channel_ready()
        said.append(process.health.words)
        if problem == "draining":
            process.stop.set()
        else:
            engine.fail_for_good(_BROKEN)
        await asyncio.wait([process.task], timeout=10)
        said.append(process.health.words)

        assert [each.phase for each in said] == [Phase.STARTING, Phase.SERVING, Phase.DRAINING]
        assert [each.problem for each in said] == ["the start is not over", "", problem]
        assert (process.task.exception() is None) == (problem == "draining")


async def test_the_paced_engine_says_that_it_failed() -> None:
    """What breaks its ticking ends its outputs, refuses new ones, and is told by `failed`."""

    class Broken:
        def __init__(self) -> None:
            self.ended: list[int] = []

        def on_events(self, events: EngineEvents) -> None:
            if events.keys:
                raise RuntimeError("a bug")
            self.ended += [event.key for event in events.ended]

    engine = PacedEngine(fake_model(), PacedSettings(tokens_per_second=1000))
    await engine.start()
    sink = Broken()
    engine.submit(EngineRequest("r", 0, (5, 6), 4, n=2), sink)
    failure = await asyncio.wait_for(engine.failed(), 10)

    assert failure.reason == errors_pb2.ERROR_REASON_ENGINE_FAILURE
    assert sink.ended == [0, 1]
    with pytest.raises(ServiceError, match="RuntimeError"):
        engine.submit(EngineRequest("s", 2, (5, 6), 4), sink)
    await engine.stop()

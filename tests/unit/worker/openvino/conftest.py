"""An engine around a model that computes nothing, started and stopped for each test."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from tests.support.event_sinks import CollectingSink
from tests.unit.worker.openvino.fakes import (
    FakeLoader,
    SuccessorRunner,
    fake_model,
)
from worker.engine.openvino.engine import OpenVinoEngine
from worker.engine.openvino.settings import OpenVinoSettings
from worker.engine.seam import EngineLoad


class StartedEngine:
    """A running engine and the double inside it."""

    def __init__(self, engine: OpenVinoEngine, runner: SuccessorRunner) -> None:
        self.engine = engine
        self.runner = runner
        self.sink = CollectingSink()

        self.hold = runner.gate.close
        self.release = runner.gate.open

    async def is_held(self) -> None:
        """Return when the thread is inside a step that `hold` keeps there."""
        await asyncio.to_thread(self.runner.gate.wait_until_held)


Start = Callable[..., Awaitable[StartedEngine]]


@pytest.fixture
async def start() -> AsyncIterator[Start]:
    """Starts engines, and stops them after the test."""
    running: list[StartedEngine] = []

    async def start_engine(num_blocks: int = 64, **settings: object) -> StartedEngine:
        loader = FakeLoader(num_blocks)
        engine = OpenVinoEngine(fake_model(), OpenVinoSettings(**settings), loader=loader)
        await engine.start()
        running.append(StartedEngine(engine, loader.runner))
        return running[-1]

    yield start_engine
    for started in running:
        started.release()
        await started.engine.stop()
        assert started.sink.violations == []


def is_whole(load: EngineLoad) -> bool:
    """Whether every block of the pool is in exactly one state."""
    return load.free_blocks + load.cached_blocks + load.referenced_blocks == load.total_blocks

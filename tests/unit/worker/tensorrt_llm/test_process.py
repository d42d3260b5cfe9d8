"""The worker's process: it ends with its engine, so that a supervisor starts another."""

import asyncio

import pytest

from headrace.runtime.errors import StartError
from tests.support.models import fake_model
from tests.support.tensorrt_llm import importable
from worker.engine.tensorrt_llm.engine import TensorRtLlmEngine
from worker.engine.tensorrt_llm.library import open_library
from worker.engine.tensorrt_llm.settings import TensorRtLlmSettings
from worker.main import serve
from worker.settings import WorkerSettings

with importable():
    from tensorrt_llm.double.machine import using
    from tensorrt_llm.double.switches import ModelFacts, Switches


async def test_the_worker_ends_with_its_engine() -> None:
    """It serves only after the canary; when the executor is gone it says so and ends."""
    listening = asyncio.Event()
    settings = TensorRtLlmSettings(
        guided_decoding_backend="none", watchdog_seconds=0.2, iteration_statistics=False
    )
    with importable(), using(Switches(model=ModelFacts())) as machine:
        engine = TensorRtLlmEngine(fake_model(), settings, open_library())
        worker = WorkerSettings(engine="tensorrt_llm", port=0)
        serving = asyncio.create_task(
            serve(worker, engine, asyncio.Event(), lambda _: listening.set())
        )
        await listening.wait()
        assert len(machine.requests) == 1
        await asyncio.to_thread(machine.llms[0].shutdown)
        with pytest.raises(StartError, match="the worker ends: TensorRT-LLM has shut itself down"):
            await serving


async def test_a_worker_whose_model_does_not_load_never_serves() -> None:
    """Its address is not even bound."""
    switches = Switches(model=ModelFacts(), construction_error="no such layer")
    listening = asyncio.Event()
    with importable(), using(switches):
        engine = TensorRtLlmEngine(fake_model(), TensorRtLlmSettings(), open_library())
        worker = WorkerSettings(engine="tensorrt_llm", port=0)
        with pytest.raises(StartError, match=r"tensorrt_llm engine cannot start: .*no such layer"):
            await serve(worker, engine, asyncio.Event(), lambda _: listening.set())

    assert not listening.is_set()

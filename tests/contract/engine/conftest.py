"""The engines, each as a wide one that all tests share and a narrow one with a single place.

Fixtures of the session are not parameterised: in random order they would be made again and again.
"""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial

import pytest
import pytest_asyncio

from headrace.models.directory import ModelDirectory
from tests.contract.engine.subject import Subject
from tests.contract.engine.tensorrt_llm_subject import (
    opened_guided_tensorrt_llm,
    opened_tensorrt_llm,
)
from tests.contract.engine_openvino.probe import KV_CACHE_BYTES, Probe, opened
from tests.support.models import fake_model
from worker.engine.paced import PacedEngine
from worker.engine.paced_settings import PacedSettings

ENGINES = [pytest.param("openvino", marks=pytest.mark.model), "paced", "tensorrt_llm"]

NARROW_QUEUE = 3
"""Outputs that may wait in a narrow engine beyond the one that runs."""


@asynccontextmanager
async def _paced(**settings: object) -> AsyncIterator[Subject]:
    values = {"tokens_per_second": 2000, "script": "echo", **settings}
    engine = PacedEngine(fake_model(), PacedSettings(**values))
    await engine.start()
    try:
        yield Subject(engine, (11, 12, 13, 14, 15), has_distribution=False)
    finally:
        await engine.stop()


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def paced() -> AsyncIterator[Subject]:
    """A paced engine that gives the prompt back, then an end token."""
    async with _paced() as subject:
        subject.fresh = _paced
        yield subject


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def paced_narrow() -> AsyncIterator[Subject]:
    """The same with a single place."""
    async with _paced(max_running_outputs=1, max_queued_outputs=NARROW_QUEUE) as subject:
        yield subject


def _opened_openvino(directory: ModelDirectory) -> AbstractAsyncContextManager[Probe]:
    return opened(directory, kv_cache_bytes=KV_CACHE_BYTES // 8)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def openvino(probe: Probe, model_directory: ModelDirectory) -> Subject:
    """The openvino engine with the default model."""
    probe.fresh = partial(_opened_openvino, model_directory)
    return probe


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def openvino_narrow(model_directory: ModelDirectory) -> AsyncIterator[Subject]:
    """The same with a single place."""
    settings = {"max_num_sequences": 1, "max_queued_outputs": NARROW_QUEUE}
    async with opened(model_directory, kv_cache_bytes=KV_CACHE_BYTES // 4, **settings) as subject:
        yield subject


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def tensorrt_llm() -> AsyncIterator[Subject]:
    """The tensorrt_llm engine on the double of its library."""
    async with opened_tensorrt_llm() as subject:
        subject.fresh = opened_tensorrt_llm
        yield subject


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def tensorrt_llm_narrow() -> AsyncIterator[Subject]:
    """The same with a single place, and nothing handed over ahead."""
    settings = {"max_batch_size": 1, "max_handed_ahead_outputs": 0}
    async with opened_tensorrt_llm(**settings, max_queued_outputs=NARROW_QUEUE) as subject:
        yield subject


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def tensorrt_llm_llguidance(model_directory: ModelDirectory) -> AsyncIterator[Subject]:
    """The tensorrt_llm engine with the default model's tokenizer and a backend for guides."""
    async with opened_guided_tensorrt_llm(model_directory, "llguidance") as subject:
        yield subject


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def tensorrt_llm_xgrammar(model_directory: ModelDirectory) -> AsyncIterator[Subject]:
    """The same with the other one."""
    async with opened_guided_tensorrt_llm(model_directory, "xgrammar") as subject:
        yield subject


@pytest.fixture(params=ENGINES)
def subject(request: pytest.FixtureRequest) -> Subject:
    """Each engine; tests that look at the cache salt their requests."""
    return request.getfixturevalue(request.param)


@pytest.fixture(params=ENGINES)
def narrow(request: pytest.FixtureRequest) -> Subject:
    """Each engine with a single place and a short queue."""
    return request.getfixturevalue(f"{request.param}_narrow")

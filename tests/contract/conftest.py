"""The openvino engine with the real model, shared by all contract tests that need it."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from headrace.models.cache import resolve_model
from headrace.models.default import DEFAULT_MODEL
from headrace.models.directory import ModelDirectory, open_model_directory
from headrace.models.settings import ModelsSettings
from tests.contract.engine_openvino.probe import KV_CACHE_BYTES, Probe, opened

_HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give what needs the real model the time that a busy machine takes to load it."""
    for item in items:
        needs_model = item.path.is_relative_to(_HERE) and item.get_closest_marker("model")
        if needs_model and item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(240))


@pytest.fixture(scope="session")
def model_directory() -> ModelDirectory:
    """The default model, which has been put into the cache before."""
    return open_model_directory(resolve_model(DEFAULT_MODEL.name, ModelsSettings().cache_dir))


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def probe(model_directory: ModelDirectory) -> AsyncIterator[Probe]:
    """In reproducible numerics; tests that look at the cache salt their requests."""
    async with opened(model_directory, kv_cache_bytes=KV_CACHE_BYTES) as shared:
        yield shared

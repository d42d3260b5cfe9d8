"""Guides reach the library with a backend only, and what it cannot follow is one request's error.

These need the files of the default model: the double's guides are over its tokenizer.
"""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from tokenizers import Tokenizer

from headrace.common.v1 import errors_pb2
from headrace.common.v1.finish_pb2 import FINISH_REASON_STOP
from headrace.models.cache import resolve_model
from headrace.models.default import DEFAULT_MODEL
from headrace.models.directory import ModelDirectory, open_model_directory
from headrace.models.settings import ModelsSettings
from tests.support.event_sinks import CollectingSink
from tests.support.tensorrt_llm import importable
from tests.unit.worker.tensorrt_llm.engines import GREEDY
from worker.engine.seam import EndedEvent, EngineRequest, Guide
from worker.engine.tensorrt_llm.engine import TensorRtLlmEngine
from worker.engine.tensorrt_llm.library import open_library
from worker.engine.tensorrt_llm.settings import TensorRtLlmSettings

with importable():
    from tensorrt_llm.double.machine import using
    from tensorrt_llm.double.switches import Switches

pytestmark = pytest.mark.model


@pytest.fixture
def directory() -> ModelDirectory:
    """The default model, which has been put into the cache before."""
    return open_model_directory(resolve_model(DEFAULT_MODEL.name, ModelsSettings().cache_dir))


@asynccontextmanager
async def _opened(directory: ModelDirectory, backend: str) -> AsyncIterator[TensorRtLlmEngine]:
    with importable(), using(Switches()):
        settings = TensorRtLlmSettings(guided_decoding_backend=backend)
        engine = TensorRtLlmEngine(directory, settings, open_library())
        await engine.start()
        try:
            yield engine
        finally:
            await engine.stop()


async def _said(
    engine: TensorRtLlmEngine, directory: ModelDirectory, guide: Guide
) -> tuple[str, EndedEvent]:
    sink = CollectingSink()
    request = EngineRequest("r", 0, (1, 2, 3), 60, sampling=GREEDY, guide=guide)
    engine.submit(request, sink)
    await sink.all_ended(0)
    tokenizer = Tokenizer.from_file(str(directory.path / "tokenizer.json"))
    return tokenizer.decode(sink.token_ids.get(0, [])), sink.ended[0]


@pytest.mark.parametrize(
    ("guide", "allowed"),
    [
        (Guide("choice", json.dumps(["yes (a)", "no [b]"])), {"yes (a)", "no [b]"}),
        (Guide("regex", "(ab|cd)-1"), {"ab-1", "cd-1"}),
        (Guide("grammar", 'start: "x" | "y"'), {"x", "y"}),
        (Guide("json_schema", '{"enum": ["p", 7]}'), {'"p"', "7"}),
    ],
)
async def test_answers_follow(directory: ModelDirectory, guide: Guide, allowed: set[str]) -> None:
    """They end by themselves, at an end token of the model."""
    async with _opened(directory, "llguidance") as engine:
        text, ended = await _said(engine, directory, guide)

    assert text in allowed
    assert ended.finish_reason == FINISH_REASON_STOP
    assert ended.stop_token_id in directory.end_token_ids


async def test_what_cannot_be_followed(directory: ModelDirectory) -> None:
    """The caller is told of the field; the engine goes on."""
    async with _opened(directory, "llguidance") as engine:
        _, ended = await _said(engine, directory, Guide("regex", "(a"))
        text, _ = await _said(engine, directory, Guide("regex", "ab"))

    assert ended.error is not None
    assert ended.error.reason == errors_pb2.ERROR_REASON_INVALID_REQUEST
    assert ended.error.param == "guide.regex"
    assert text == "ab"

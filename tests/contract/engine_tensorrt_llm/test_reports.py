"""What the library keeps to itself: its load, and what it accepts and then ignores."""

import asyncio
from typing import Any

import pytest

from headrace.common.v1 import errors_pb2
from headrace.rpc.errors import ServiceError
from headrace.worker.v1.generation_pb2 import GenerationRequest, Guide
from headrace.worker.v1.generation_pb2 import SamplingParams as WireSampling
from tests.support.event_sinks import CollectingSink
from tests.unit.worker.tensorrt_llm.engines import opened
from worker.engine.seam import SamplingParams
from worker.request_mapping import engine_request

PATIENCE_SECONDS = 3.0
_IGNORED: list[dict[str, Any]] = [
    {"min_p": 0.1},
    {"presence_penalty": 0.5},
    {"frequency_penalty": 0.5},
    {"repetition_penalty": 1.5},
    {"seed": 7},
]
_GUIDES: list[dict[str, Any]] = [
    {"json_schema": "{}"},
    {"json_object": True},
    {"regex": "a+"},
    {"grammar": 'start: "a"'},
    {"structural_tag": "{}"},
]


def _wire(info: Any, **fields: Any) -> GenerationRequest:
    return GenerationRequest(
        request_id="r", model=info.model, prompt_token_ids=[11, 12], max_tokens=4, n=1, **fields
    )


@pytest.mark.parametrize("before", ["assert", "empty"])
@pytest.mark.parametrize("rearms", ["request", "poll"])
async def test_statistics_go_on_after_a_silence(
    monkeypatch: pytest.MonkeyPatch, before: str, rearms: str
) -> None:
    """14: an iterator that ended for want of news is no end of all news."""
    monkeypatch.setattr("worker.engine.tensorrt_llm.load._POLL_SECONDS", 0.02)
    switches = {"before_first_request": before, "rearms_iterators": rearms}
    async with opened({**switches, "iteration_seconds": 0.002}) as engine:
        total = engine.engine.load.total_blocks
        failing = asyncio.create_task(engine.engine.failed())
        await asyncio.wait({failing}, timeout=0.5)
        sink = CollectingSink()
        engine.submit(sink, prompt=tuple(range(100, 500)), ignore_eos=True, max_tokens=2000)
        async with asyncio.timeout(PATIENCE_SECONDS):
            await sink.wait_until(lambda: engine.engine.load.referenced_blocks >= 13)
        engine.engine.abort(sink, [0])
        failing.cancel()

        assert total == 1024


@pytest.mark.parametrize("drops", [True, False])
@pytest.mark.parametrize("guide", _GUIDES, ids=lambda guide: next(iter(guide)))
async def test_without_a_backend_guides_are_refused_by_name(
    guide: dict[str, Any], drops: bool
) -> None:
    """15: the library would answer freely and say nothing."""
    switches = {"drops_guides_without_backend": drops}
    async with opened(switches, guided_decoding_backend="none") as engine:
        info = engine.engine.info
        (kind,) = guide
        with pytest.raises(ServiceError, match=rf"guide\.{kind}") as refused:
            engine_request(_wire(info, guide=Guide(**guide)), 0, info)

    assert refused.value.reason == errors_pb2.ERROR_REASON_UNSUPPORTED_PARAMETER


@pytest.mark.parametrize("ignored", _IGNORED, ids=lambda ignored: next(iter(ignored)))
async def test_what_the_default_sampler_ignores_is_refused_by_name(ignored: dict[str, Any]) -> None:
    """16: it is accepted by the library, without effect, so it is not honoured here."""
    async with opened(sampler="TorchSampler") as engine:
        info = engine.engine.info
        (name,) = ignored
        with pytest.raises(ServiceError, match=name) as refused:
            engine_request(_wire(info, sampling=WireSampling(**ignored)), 0, info)

    assert f"sampling.{name}" not in info.honoured_fields
    assert refused.value.reason == errors_pb2.ERROR_REASON_UNSUPPORTED_PARAMETER


@pytest.mark.parametrize("ignored", _IGNORED, ids=lambda ignored: next(iter(ignored)))
async def test_what_the_other_sampler_honours_reaches_it(ignored: dict[str, Any]) -> None:
    """16: taken from the wire, reported, and told to the library."""
    async with opened(sampler="TRTLLMSampler") as engine:
        info = engine.engine.info
        (name,) = ignored
        mapped = engine_request(_wire(info, sampling=WireSampling(**ignored)), 0, info)
        await engine.ask(sampling=mapped.sampling, max_tokens=2)
        told = engine.machine.requests[-1].sampling_params

    assert isinstance(mapped.sampling, SamplingParams)
    assert f"sampling.{name}" in info.honoured_fields
    assert getattr(told, name) == pytest.approx(ignored[name])

"""The KV cache with the real model: reuse, salts, a small pool, aborts, refusals at the start."""

import random
import re
import shutil
from itertools import pairwise
from pathlib import Path

import pytest

from headrace.common.v1.finish_pb2 import FINISH_REASON_LENGTH
from headrace.models.directory import ModelDirectory
from headrace.rpc.errors import ServiceError
from tests.contract.engine_openvino.probe import KV_CACHE_BYTES, Probe, opened
from tests.support.event_sinks import CollectingSink
from worker.engine.openvino.graph import compile_graph
from worker.engine.openvino.settings import OpenVinoSettings
from worker.engine.seam import EngineLoad, Guide

pytestmark = [pytest.mark.model, pytest.mark.asyncio(loop_scope="session")]


def _long_prompt(probe: Probe, seed: int) -> list[int]:
    chance = random.Random(seed)
    vocabulary = probe.engine.info.vocabulary_size
    return [chance.randrange(100, vocabulary) for _ in range(2000)]


def _counts_add_up(load: EngineLoad) -> bool:
    return load.free_blocks + load.cached_blocks + load.referenced_blocks == load.total_blocks


async def test_a_cached_prompt_is_not_computed_again(probe: Probe) -> None:
    """The second time only the uncached tokens are fed, ten times as fast, with the same ids."""
    prompt = _long_prompt(probe, 1)
    # What other tests aborted is out of the engine's steps once this has ended.
    await probe.generate(probe.chat("Hi."), max_tokens=1)
    fed = [probe.tokens_fed]
    answers = []
    for _ in range(2):
        answers.append(await probe.generate(prompt, max_tokens=1))
        fed.append(probe.tokens_fed)
    cold, cached = answers

    assert cold.started.cached_prompt_tokens == 0
    assert cached.started.cached_prompt_tokens == 1984
    assert [after - before for before, after in pairwise(fed)] == [2000, 2000 - 1984]
    assert cached.token_ids == cold.token_ids
    assert cached.first_seconds <= 0.1 * cold.first_seconds


async def test_reuse_changes_no_id(probe: Probe) -> None:
    """A second turn over blocks that prefill and decode wrote has the ids of a fresh one."""
    first = probe.chat("Write a short story about a dragon and a river.")
    told = await probe.generate(first, max_tokens=80, ignore_eos=True, cache_salt="reused")
    second = [*first, *told.token_ids, *probe.chat("And what then?")]
    reused = await probe.generate(second, cache_salt="reused")
    fresh = await probe.generate(second, cache_salt="fresh")

    assert reused.started.cached_prompt_tokens == (len(first) + 79) // 32 * 32
    assert fresh.started.cached_prompt_tokens == 0
    assert reused.token_ids == fresh.token_ids


async def test_decoding_goes_on_while_a_prompt_is_read(probe: Probe) -> None:
    """Beside an output that decodes, a long prompt is cut into more and smaller steps."""
    running, reading = CollectingSink(), CollectingSink()
    decoder = probe.request(probe.chat("Count."), max_tokens=400, ignore_eos=True)
    probe.engine.submit(decoder, running)
    await running.has_tokens(decoder.first_key, 5)
    steps = probe.loaded.runner.steps
    reader = probe.request(_long_prompt(probe, 3)[:1000], max_tokens=1)
    probe.engine.submit(reader, reading)
    before = len(running.token_ids[decoder.first_key])
    await reading.all_ended(reader.first_key)
    steps = probe.loaded.runner.steps - steps
    got = len(running.token_ids[decoder.first_key]) - before
    probe.engine.abort(running, [decoder.first_key])

    assert steps > 2, "512 tokens a step would be 2 steps"
    assert got >= steps - 2


@pytest.mark.timeout(180)
async def test_random_aborts_leave_no_block_behind(probe: Probe) -> None:
    """40 outputs aborted at random moments leave none."""
    await _abort_at_random(probe, 40)
    load = probe.engine.load

    assert load.free_blocks + load.cached_blocks == load.total_blocks


@pytest.mark.slow
@pytest.mark.timeout(180)
async def test_the_whole_pool_is_free_after_random_aborts(probe: Probe) -> None:
    """200 outputs aborted at random moments, then one that needs the whole pool succeeds."""
    await _abort_at_random(probe, 200)
    room = min(probe.loaded.pool_tokens, probe.engine.info.context_length)
    whole = await probe.generate([5] * (room - 3), max_tokens=4, ignore_eos=True)
    load = probe.engine.load

    assert whole.ended.finish_reason == FINISH_REASON_LENGTH
    assert load.free_blocks + load.cached_blocks == load.total_blocks


async def _abort_at_random(probe: Probe, num_outputs: int) -> None:
    """Returns once the engine has let go of all of them."""
    chance = random.Random(5)
    sink = CollectingSink()
    prompts = [_long_prompt(probe, seed)[: chance.randrange(1, 100)] for seed in range(20)]
    keys = []
    for number in range(num_outputs):
        request = probe.request(prompts[number % 20], max_tokens=50, ignore_eos=True)
        probe.engine.submit(request, sink)
        keys.append(request.first_key)
        if chance.random() < 0.15:
            await sink.has_tokens(keys[-1], chance.randrange(1, 4))
        probe.engine.abort(sink, [keys[-1] if chance.random() < 0.7 else keys[-4:][0]])
        assert _counts_add_up(probe.engine.load)
    probe.engine.abort(sink, keys)
    await probe.generate(probe.chat("Hi."), max_tokens=1)

    assert sink.violations == []


@pytest.mark.slow
@pytest.mark.timeout(180)
@pytest.mark.parametrize("guide", [None, Guide("regex", "[a-z ]{300,400}")])
async def test_a_small_pool_preempts_and_changes_no_id(
    probe: Probe, model_directory: ModelDirectory, guide: Guide | None
) -> None:
    """Four outputs in a pool for one and a half have the ids that they have with room for all."""
    prompts = [probe.chat(f"Tell me about the number {number}.") for number in range(4)]
    fields = {"max_tokens": 50, "min_tokens": 50, "guide": guide}
    expected = await probe.generate_all([probe.request(p, **fields) for p in prompts])
    block_bytes = KV_CACHE_BYTES // probe.engine.load.total_blocks
    async with opened(model_directory, kv_cache_bytes=5 * block_bytes) as small:
        answers = await small.generate_all([small.request(p, **fields) for p in prompts])
        load = small.engine.load
        with pytest.raises(ServiceError, match="the whole KV cache holds 160"):
            small.engine.submit(small.request([5] * 100, max_tokens=62), CollectingSink())

    assert [a.token_ids for a in answers] == [a.token_ids for a in expected]
    if guide is not None:
        assert all(re.fullmatch("[a-z ]+", probe.decode(a.token_ids)) for a in answers)
    assert load.preemptions > 0
    assert load.evicted_blocks > 0
    assert load.referenced_blocks == 0


async def test_a_model_without_weights_is_refused_by_name(tmp_path: Path) -> None:
    """A directory without an OpenVINO model is one sentence."""
    with pytest.raises(ServiceError, match=r"openvino_model\.xml is missing"):
        compile_graph(tmp_path, OpenVinoSettings())


async def test_a_model_that_is_no_decoder_is_refused_by_name(
    tmp_path: Path, model_directory: ModelDirectory
) -> None:
    """A model whose file is broken is refused with what OpenVINO says of it."""
    shutil.copy(model_directory.path / "config.json", tmp_path)
    (tmp_path / "openvino_model.xml").write_text("<net name='x' version='11'></net>")

    with pytest.raises(ServiceError, match="OpenVINO cannot run"):
        compile_graph(tmp_path, OpenVinoSettings())

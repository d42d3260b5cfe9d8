"""Results: one object that changes in place, in whatever portions, shapes and order it does."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from headrace.common.v1.finish_pb2 import FINISH_REASON_LENGTH, FINISH_REASON_STOP
from tests.support.event_sinks import CollectingSink
from tests.unit.worker.tensorrt_llm.engines import END_IDS, PROMPT, Said, opened
from worker.engine.seam import SamplingParams

PATIENCE_SECONDS = 3.0
_PROMPTS = [(first, 12, 13, 14, 15) for first in range(100, 112)]
_LONG = tuple(range(200, 300))


async def _answers(switches: dict[str, Any], **fields: Any) -> list[Said]:
    async with opened(switches) as engine:
        return [await engine.ask(prompt, **fields) for prompt in _PROMPTS]


@pytest.mark.parametrize("shares", [True, False])
async def test_tokens_are_told_as_they_come(shares: bool) -> None:
    """4: each step's once, while the library goes on; ids come as ids, never as text."""
    async with opened({"shares_result": shares}) as engine, asyncio.timeout(PATIENCE_SECONDS):
        engine.machine.hold()
        sink = CollectingSink()
        engine.submit(sink, ignore_eos=True, max_tokens=6)
        engine.machine.steps(3)
        await sink.has_tokens(0, 2)
        early = list(sink.token_ids[0])
        is_ended_early = 0 in sink.ended
        engine.machine.release()
        await sink.all_ended(0)
        told = engine.machine.requests[-1].sampling_params

        assert not is_ended_early
        assert len(early) <= 3
        assert sink.token_ids[0][: len(early)] == early
        assert len(sink.token_ids[0]) == 6
        assert not told.detokenize


@pytest.mark.parametrize("empty_end", [True, False])
@pytest.mark.parametrize("portions", [(1, 1), (2, 5)])
async def test_portions_do_not_matter(portions: tuple[int, int], empty_end: bool) -> None:
    """5: several ids a step, and an end that comes in a step without any."""
    switches = {"tokens_per_step": portions, "ends_with_empty_step": empty_end}
    usual = await _answers({})
    other = await _answers(switches)
    async with opened(switches) as engine:
        full = await engine.ask(ignore_eos=True, max_tokens=9)

    assert [said.token_ids for said in other] == [said.token_ids for said in usual]
    assert [said.ended.finish_reason for said in other] == [
        said.ended.finish_reason for said in usual
    ]
    assert (full.ended.finish_reason, len(full.token_ids)) == (FINISH_REASON_LENGTH, 9)


@pytest.mark.parametrize("per", ["sequence", "request"])
@pytest.mark.parametrize("stale", [True, False])
async def test_outputs_of_one_request_are_kept_apart(stale: bool, per: str) -> None:
    """6: differences that are repeated are not told twice, and reasons may come at the very end."""
    switches = {"stale_diffs": stale, "finish_reason_per": per}
    async with opened(switches, sampler="TRTLLMSampler") as engine:
        drawing = SamplingParams(seed=7)
        outputs = await engine.outputs(n=4, sampling=drawing, max_tokens=30)
        other = await engine.outputs(n=4, sampling=drawing, max_tokens=30)

    assert len({tuple(said.token_ids) for said in outputs}) == 4
    for said, again in zip(outputs, other, strict=True):
        assert said.token_ids == again.token_ids
        assert said.ended.num_output_tokens == len(said.token_ids) <= 30
        is_stop = said.ended.finish_reason == FINISH_REASON_STOP
        assert is_stop == (said.token_ids[-1] in END_IDS)
        assert not set(said.token_ids[:-1]) & set(END_IDS)


@pytest.mark.parametrize("trims", [True, False])
@pytest.mark.parametrize("keeps_end", [True, False])
async def test_the_token_that_ended_it_is_the_last(keeps_end: bool, trims: bool) -> None:
    """7: put back where it was cut off, with as many log probabilities as ids."""
    switches = {"keeps_end_id": keeps_end, "trims_logprobs": trims, "trims_stop_words": True}
    answers = await _answers(switches, logprobs=2)
    stopped = [said for said in answers if said.ended.finish_reason == FINISH_REASON_STOP]

    assert {said.ended.stop_token_id for said in stopped} == set(END_IDS)
    for said in stopped:
        assert said.ended.stop_token_id == said.token_ids[-1]
    for said in answers:
        assert len(said.logprobs) == len(said.token_ids) == said.ended.num_output_tokens


async def test_log_probabilities_end_where_the_ids_do() -> None:
    """7: the library's list goes on, behind an id at which only this side stops."""
    switches = {"ignore_eos_drops_stop_words": True, "tokens_per_step": (4, 4)}
    async with opened(switches) as engine:
        free = await engine.ask(ignore_eos=True)
        for stop in free.token_ids[8:12]:
            said = await engine.ask(
                ignore_eos=True, stop_token_ids=frozenset({stop}), logprobs=1, max_tokens=40
            )
            assert said.ended.error is None
            assert said.token_ids == free.token_ids[: free.token_ids.index(stop) + 1]
            assert len(said.logprobs) == len(said.token_ids)


async def _cached(switches: dict[str, Any], salts: Sequence[str]) -> list[int]:
    async with opened(switches) as engine:
        cached = []
        for salt in salts:
            sink = CollectingSink()
            engine.submit(sink, prompt=_LONG, max_tokens=2, cache_salt=salt)
            await sink.all_ended(0)
            cached.append(sink.started[0].cached_prompt_tokens)
        return cached


async def test_cached_tokens_are_those_of_the_first_response() -> None:
    """13: none at first, whole blocks when it comes again; a tenant shares with itself alone."""
    assert await _cached({}, ("", "", "")) == [0, 96, 96]
    assert await _cached({}, ("a", "b", "a")) == [0, 0, 96]


async def test_parts_of_blocks_never_make_the_prompt_whole() -> None:
    """13: a build that counts them too still computes the last token."""
    assert await _cached({"counts_partial_reuse": True}, ("", "")) == [0, 99]


@pytest.mark.parametrize("gives", [True, False])
async def test_times_are_taken_here(gives: bool) -> None:
    """19: the library's metrics come with the last response, if at all, so none are asked for."""
    async with opened({"gives_perf_metrics": gives, "iteration_seconds": 0.02}) as engine:
        sink = CollectingSink()
        engine.submit(sink, prompt=PROMPT, ignore_eos=True, max_tokens=4)
        await sink.all_ended(0)
        told = engine.machine.requests[-1].sampling_params
        started, ended = sink.started[0], sink.ended[0]

    assert not told.return_perf_metrics
    assert ended.error is None
    assert 0 <= started.queue_ms < 1000
    assert 0 <= started.prefill_ms < 1000
    assert 40 <= ended.decode_ms < 3000

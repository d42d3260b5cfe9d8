"""Whatever way the library takes, the same answers come out: on the double, switch by switch."""

from collections.abc import Mapping
from typing import Any

import pytest

from headrace.common.v1.finish_pb2 import FINISH_REASON_LENGTH, FINISH_REASON_STOP
from tests.unit.worker.tensorrt_llm.engines import END_IDS, Said, opened
from worker.engine.seam import SamplingParams

PROMPTS = [(first, 12, 13, 14, 15) for first in range(100, 112)]

VARIANTS: list[Mapping[str, Any]] = [
    {"keeps_end_id": False},
    {"trims_stop_words": False},
    {"trims_logprobs": True},
    {"ends_with_empty_step": True},
    {"ends_with_empty_step": True, "keeps_end_id": False},
    {"tokens_per_step": (1, 5)},
    {"tokens_per_step": (2, 4), "keeps_end_id": False},
    {"shares_result": False},
    {"logprobs_shape": "float"},
    {"ignore_eos_drops_stop_words": True},
    {"finish_reason_per": "request"},
    {"mutates_sampling_params": False},
    {"missing_keywords": frozenset({"cache_salt", "trace_headers", "scheduling_params"})},
    {"has_check_health": True},
]


async def _answers(switches: Mapping[str, Any], **fields: Any) -> list[Said]:
    async with opened(dict(switches)) as engine:
        return [await engine.ask(prompt, **fields) for prompt in PROMPTS]


def _shape(said: Said) -> object:
    ended = said.ended
    return said.token_ids, ended.finish_reason, ended.stop_token_id, ended.num_output_tokens


@pytest.mark.parametrize("switches", VARIANTS, ids=str)
async def test_answers_are_the_same(switches: Mapping[str, Any]) -> None:
    """Ids, reason, end token and count do not depend on how they came."""
    usual = await _answers({})
    other = await _answers(switches)

    assert [_shape(said) for said in other] == [_shape(said) for said in usual]


async def test_both_end_tokens_occur() -> None:
    """Some answers end at the tokenizer's token, some at the configuration's, some by length."""
    usual = await _answers({})

    assert {said.ended.stop_token_id for said in usual} >= set(END_IDS)
    for said in usual:
        ended = said.ended
        assert ended.num_output_tokens == len(said.token_ids)
        if ended.finish_reason == FINISH_REASON_STOP:
            assert ended.stop_token_id == said.token_ids[-1]
        else:
            assert (ended.finish_reason, len(said.token_ids)) == (FINISH_REASON_LENGTH, 40)


@pytest.mark.parametrize("drops", [False, True])
@pytest.mark.parametrize("steps", [(1, 1), (3, 5)])
async def test_a_stop_id_ends_where_ends_are_ignored(drops: bool, steps: tuple[int, int]) -> None:
    """Also on a build that forgets stop ids then, and what follows in the same step is cut off."""
    switches = {"ignore_eos_drops_stop_words": drops, "tokens_per_step": steps}
    free = (await _answers({}, ignore_eos=True))[0]
    stop = free.token_ids[9]
    async with opened(switches) as engine:
        said = await engine.ask(PROMPTS[0], ignore_eos=True, stop_token_ids=frozenset({stop}))
        engine.machine.wait_idle()

    assert said.token_ids == free.token_ids[: free.token_ids.index(stop) + 1]
    assert said.ended.stop_token_id == stop


@pytest.mark.parametrize("per", ["sequence", "request"])
@pytest.mark.parametrize("keeps", [False, True])
async def test_several_outputs(per: str, keeps: bool) -> None:
    """Each of four drawn outputs has its own ids and its own end, and none is told twice."""
    switches = {"finish_reason_per": per, "keeps_end_id": keeps, "interleaving": "random"}
    shape = {"sampler": "TRTLLMSampler"}
    drawn = []
    for told in ({}, switches):
        async with opened(told, **shape) as engine:
            drawn.append(
                await engine.outputs(
                    n=4, sampling=SamplingParams(seed=7), logprobs=2, max_tokens=30
                )
            )

    assert [_shape(said) for said in drawn[1]] == [_shape(said) for said in drawn[0]]
    assert len({tuple(said.token_ids) for said in drawn[0]}) == 4
    for said in drawn[1]:
        assert len(said.logprobs) == len(said.token_ids)

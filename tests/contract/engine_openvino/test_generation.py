"""What the openvino engine generates with the real model, and that nothing around it matters."""

import math

import pytest

from headrace.common.v1.finish_pb2 import FINISH_REASON_STOP
from headrace.models.directory import ModelDirectory
from tests.contract.engine_openvino.probe import KV_CACHE_BYTES, Probe, opened
from worker.engine.seam import SamplingParams

pytestmark = [pytest.mark.model, pytest.mark.asyncio(loop_scope="session")]

QUESTIONS = [
    "What is the capital of France?",
    "Name three colours.",
    "Write a short story about a dragon and a river.",
    "Why is the sky blue?",
    "How do I boil an egg?",
    "What is a prime number?",
    "Tell me a joke about a cat.",
    "List the days of the week.",
]
DRAWN = SamplingParams(temperature=0.8, top_p=0.95, seed=7)
# Draws notice every change that greedy answers would.
SAMPLINGS = [pytest.param(SamplingParams(temperature=0), marks=pytest.mark.slow), DRAWN]


async def test_a_greedy_answer_makes_sense(probe: Probe) -> None:
    """The model knows the capital of France, and its end token ends the answer and is named."""
    answer = await probe.generate(probe.chat("What is the capital of France?"))

    end = probe.encode("<|im_end|>")[0]
    assert "Paris" in probe.decode(answer.token_ids)
    assert answer.ended.finish_reason == FINISH_REASON_STOP
    assert answer.ended.stop_token_id == answer.token_ids[-1] == end
    assert answer.ended.num_output_tokens == len(answer.token_ids)


@pytest.mark.parametrize("sampling", SAMPLINGS)
async def test_a_batch_of_8_changes_nothing(probe: Probe, sampling: SamplingParams) -> None:
    """Each of eight answers has the same ids alone and beside the seven others."""
    prompts = [probe.chat(question) for question in QUESTIONS]
    salts = [f"{sampling.seed}-{turn}" for turn in range(2)]
    alone = [
        (await probe.generate(prompt, sampling=sampling, cache_salt=salts[0])).token_ids
        for prompt in prompts
    ]
    batch = await probe.generate_all(
        [probe.request(prompt, sampling=sampling, cache_salt=salts[1]) for prompt in prompts]
    )

    assert [answer.token_ids for answer in batch] == alone


@pytest.mark.parametrize("sampling", SAMPLINGS)
async def test_a_continuation_gives_the_rest(probe: Probe, sampling: SamplingParams) -> None:
    """Cut anywhere and continued elsewhere, an answer has the ids of an uninterrupted one."""
    prompt = probe.chat("Write a short story about a dragon and a river.")
    whole = await probe.generate(prompt, sampling=sampling, max_tokens=40, ignore_eos=True)
    for cut in (1, 17, 39):
        rest = await probe.generate(
            prompt,
            sampling=sampling,
            max_tokens=40,
            ignore_eos=True,
            output_prefix_token_ids=tuple(whole.token_ids[:cut]),
            cache_salt=f"continued at {cut}",
        )

        assert rest.token_ids == whole.token_ids[cut:]
        assert rest.started.prompt_tokens == len(prompt)


@pytest.mark.slow
async def test_outputs_that_fork_are_those_that_do_not(
    probe: Probe, model_directory: ModelDirectory
) -> None:
    """Four outputs over one copied prompt have the ids that each has one after the other."""
    prompt = probe.chat("Write a short story about a dragon and a river.")
    assert len(prompt) % 32, "a block is partly filled"
    fields = {"sampling": DRAWN, "n": 4, "max_tokens": 40, "ignore_eos": True}
    fed = probe.tokens_fed
    together = await probe.outputs(probe.request(prompt, cache_salt="forked", **fields))
    fed = probe.tokens_fed - fed
    async with opened(
        model_directory, kv_cache_bytes=KV_CACHE_BYTES // 8, max_num_sequences=1
    ) as narrow:
        alone = await narrow.outputs(narrow.request(prompt, **fields))

    assert [answer.token_ids for answer in together] == [answer.token_ids for answer in alone]
    assert len({tuple(answer.token_ids) for answer in together}) == 4
    assert fed == len(prompt) + 4 * 39
    cached = [answer.started.cached_prompt_tokens for answer in together]
    assert cached == [0, *[len(prompt) - 1] * 3]


async def test_logprobs_do_not_depend_on_what_is_drawn(probe: Probe) -> None:
    """Of the model's distribution: the same greedy, hot and biased, and the most probable first."""
    prompt = probe.chat("What is the capital of France?")
    banned = probe.encode("The")[0]
    shapes = [
        SamplingParams(temperature=0),
        SamplingParams(temperature=2.0, seed=3, top_k=2),
        SamplingParams(temperature=0, logit_bias=((banned, -100.0),)),
    ]
    answers = [
        await probe.generate(prompt, sampling=shape, logprobs=20, max_tokens=1) for shape in shapes
    ]
    tops = [answer.logprobs[0].top for answer in answers]

    assert tops[0] == tops[1] == tops[2]
    assert len(tops[0]) == 20
    assert [v for _, v in tops[0]] == sorted((v for _, v in tops[0]), reverse=True)
    assert answers[0].logprobs[0].logprob == tops[0][0][1]
    assert sum(math.exp(value) for _, value in tops[0]) <= 1 + 1e-6
    for answer in answers:
        known = dict(tops[0])
        assert answer.logprobs[0].logprob == known[answer.token_ids[0]]


async def test_info_names_what_changes_the_text(probe: Probe) -> None:
    """The fingerprint holds engine, version and numerics."""
    info = probe.engine.info

    assert info.system_fingerprint.startswith("openvino-20")
    assert "-reproducible-" in info.system_fingerprint
    assert info.block_size == 32

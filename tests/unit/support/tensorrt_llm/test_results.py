"""Behaviours 3 to 9: submission, results, steps, several outputs, ends, log probabilities."""

import asyncio
import math
from typing import Any

import numpy as np
import pytest

from tests.support.tensorrt_llm import importable
from tests.unit.support.tensorrt_llm.conftest import PROMPT, Opened, Opener

with importable():
    from tensorrt_llm import SamplingParams
    from tensorrt_llm.double.switches import ModelFacts
    from tensorrt_llm.executor.result import Logprob
    from tensorrt_llm.executor.utils import RequestError

TWO = {"n": 2, "temperature": 1.0}


async def _steps(result: Any) -> list[list[list[int]]]:
    """For each step the ids of every output so far, copied."""
    return [[list(output.token_ids) for output in step.outputs] async for step in result]


async def _free(here: Opened, count: int = 8) -> list[int]:
    """The greedy ids behind PROMPT."""
    return list((await here.ask(max_tokens=count)).outputs[0].token_ids)


@pytest.mark.parametrize("requires", [True, False])
async def test_behaviour_3_needs_the_loop_at_submission(opened: Opener, requires: bool) -> None:
    """A result made without a loop can be read in a blocking way only, unless switched off."""
    here = opened({"requires_running_loop": requires})
    params = SamplingParams(max_tokens=2, detokenize=False)
    blocking = await asyncio.to_thread(here.llm.generate_async, PROMPT, params)
    made = await asyncio.to_thread(here.llm.generate_async, PROMPT, params)

    assert len((await asyncio.to_thread(blocking.result)).outputs[0].token_ids) == 2
    if requires:
        with pytest.raises(AssertionError, match="not present during initialization"):
            await made.aresult()
    else:
        assert len((await made).outputs[0].token_ids) == 2


async def test_behaviour_3_generate_async_is_no_coroutine(opened: Opener) -> None:
    """It returns at once, with an int id from 2 on, before anything is computed."""
    here = opened({"held": True})
    results = [here.ask() for _ in range(2)]

    assert [result.request_id for result in results] == [2, 3]
    assert [result.cached_tokens for result in results] == [0, 0]
    assert here.machine.iterations == 0


@pytest.mark.parametrize("mutates", [True, False])
async def test_behaviour_3_parameters_are_mutated(opened: Opener, mutates: bool) -> None:
    """The caller's own object gets its end id and stop ids; switched off, a copy does."""
    here = opened({"mutates_sampling_params": mutates})
    params = SamplingParams(max_tokens=1, stop="w5 w6")
    await here.llm.generate_async(PROMPT, params)

    assert (params.end_id, params._stop_word_ids) == ((2, [[5, 6]]) if mutates else (None, None))


@pytest.mark.parametrize("refuses", [True, False])
async def test_behaviour_3_long_prompts(opened: Opener, refuses: bool) -> None:
    """Beyond max_num_tokens a prompt is refused at once, unless it can be read in chunks."""
    here = opened({"refuses_long_prompts": refuses}, max_num_tokens=8)
    chunked = opened(enable_chunked_prefill=True, max_num_tokens=8)
    if refuses:
        with pytest.raises(RequestError, match="should not exceed max_num_tokens"):
            here.ask()
    else:
        assert (await here.ask()).finished
    before = chunked.machine.iterations
    await chunked.ask(max_tokens=1)

    assert chunked.machine.iterations - before == 2


async def test_behaviour_3_bad_inputs(opened: Opener) -> None:
    """No ids: IndexError; not ints: TypeError; wrong parameters: TypeError."""
    here = opened()
    with pytest.raises(IndexError):
        here.ask([])
    with pytest.raises(TypeError, match="int64"):
        here.ask(list(np.arange(3)))
    with pytest.raises(TypeError, match="sampling_params"):
        here.llm.generate_async(PROMPT, {"max_tokens": 3})
    without = opened(skip_tokenizer_init=True)
    with pytest.raises(ValueError, match="tokenizer"):
        without.ask()

    assert (await without.ask(end_id=2)).finished


async def test_behaviour_3_lengths_are_the_workers(opened: Opener) -> None:
    """max_tokens None runs to the end, more is clamped, a prompt without room is an error."""
    here = opened(max_seq_len=32)
    texts = [(await here.ask(max_tokens=most)).outputs[0] for most in (None, 1000)]
    result = here.ask(list(range(100, 132)))
    with pytest.raises(RequestError, match="greater than max_seq_len"):
        await result
    with pytest.raises(RequestError, match="positive"):
        await here.ask(max_tokens=0)

    assert [len(output.token_ids) for output in texts] == [22, 22]
    assert [output.finish_reason for output in texts] == ["length"] * 2
    assert len(here.machine.warnings) == 1


@pytest.mark.parametrize("shares", [True, False])
async def test_behaviour_4_steps_show_one_object(opened: Opener, shares: bool) -> None:
    """Each step gives the result itself, whose lists grow in place; text stays empty."""
    here = opened({"shares_result": shares})
    result = here.ask()
    shown = [step async for step in result]
    lengths = [len(step.outputs[0].token_ids) for step in shown]

    assert lengths == ([8] * 8 if shares else list(range(1, 9)))
    assert all(step is result for step in shown) == shares
    assert {step.outputs[0].text for step in shown} == {""}


async def test_behaviour_4_awaiting_drains(opened: Opener) -> None:
    """An await gives the end; afterwards iteration is over; text comes with detokenize."""
    here = opened()
    result = here.ask(detokenize=True, max_tokens=3)
    ended = await result
    ids = result.outputs[0].token_ids

    assert ended is result
    assert [step async for step in result] == []
    assert result.outputs[0].text == " ".join(f"w{i}" for i in ids)


@pytest.mark.parametrize(
    ("switches", "keywords", "sizes"),
    [
        ({}, {}, [1] * 8),
        ({"tokens_per_step": (3, 3)}, {}, [3, 3, 2]),
        ({}, {"stream_interval": 4}, [1, 3, 4]),
        ({"ends_with_empty_step": True}, {}, [1] * 8 + [0]),
    ],
)
async def test_behaviour_5_tokens_a_step(
    opened: Opener, switches: dict[str, Any], keywords: dict[str, Any], sizes: list[int]
) -> None:
    """One id a step, or several, or none at the end; the ids are the same."""
    here = opened(switches, **keywords)
    counts = [len(step.outputs[0].token_ids_diff) async for step in here.ask()]

    assert counts == sizes
    assert await _free(here) == await _free(opened())


async def test_behaviour_5_speculation(opened: Opener) -> None:
    """With a draft length, steps have between one and that many ids more, and say so."""
    config = {"decoding_type": "Eagle3", "max_draft_len": 3}
    here = opened(speculative_config=config, return_perf_metrics=True)
    result = here.ask(max_tokens=40)
    counts = [len(step.outputs[0].token_ids_diff) async for step in result]
    told = result.outputs[0].request_perf_metrics.speculative_decoding

    assert set(counts) == {1, 2, 3, 4}
    assert result.avg_decoded_tokens_per_iter > 1
    assert 0 < told.total_accepted_draft_tokens < told.total_draft_tokens


@pytest.mark.parametrize("stale", [True, False])
async def test_behaviour_6_stale_differences(opened: Opener, stale: bool) -> None:
    """A step carries one output; the other's difference repeats, unless switched off."""
    result = opened({"stale_diffs": stale}).ask(**TWO)
    shown: list[list[int]] = [[], []]
    async for step in result:
        for output in step.outputs:
            shown[output.index] += output.token_ids_diff

    repeats = any(shown[output.index] != output.token_ids for output in result.outputs)
    assert repeats == stale


@pytest.mark.parametrize("interleaving", ["random", "ordered"])
async def test_behaviour_6_interleaving(opened: Opener, interleaving: str) -> None:
    """Outputs step in any order, or in that of their indices."""
    here = opened({"interleaving": interleaving})
    order, before = [], [0, 0]
    for lengths in [[len(ids) for ids in step] for step in await _steps(here.ask(**TWO))]:
        order += [index for index in (0, 1) if lengths[index] > before[index]]
        before = lengths

    assert sorted(order) == [0] * 8 + [1] * 8
    assert (order == [0, 1] * 8) == (interleaving == "ordered")


@pytest.mark.parametrize("per", ["sequence", "request"])
async def test_behaviour_6_when_finish_reasons_come(opened: Opener, per: str) -> None:
    """An output's reason is there when it ends, or only when all have."""
    here = opened({"finish_reason_per": per})
    early = False
    result = here.ask(n=3, temperature=1.0, ignore_eos=False, max_tokens=40)
    async for step in result:
        reasons = [output.finish_reason for output in step.outputs]
        early = early or (any(reasons) and not all(reasons))

    assert early == (per == "sequence")
    assert all(output.finish_reason for output in result.outputs)


@pytest.mark.parametrize("trims", [True, False])
@pytest.mark.parametrize("trims_logprobs", [False, True])
async def test_behaviour_7_stops_shrink(opened: Opener, trims: bool, trims_logprobs: bool) -> None:
    """A stop of two ids is cut off after its first was shown; log probabilities stay."""
    here = opened({"trims_stop_words": trims, "trims_logprobs": trims_logprobs})
    free = await _free(here)
    text = f"w{free[3]} w{free[4]}"
    result = here.ask(stop=text, logprobs=1)
    lengths = [len(step[0]) for step in await _steps(result)]
    output = result.outputs[0]

    assert lengths == [1, 2, 3, 4, 3 if trims else 5]
    assert (output.finish_reason, output.stop_reason) == ("stop", text)
    assert len(output.logprobs) == (3 if trims and trims_logprobs else 5)


@pytest.mark.parametrize("keeps", [True, False])
async def test_behaviour_7_end_ids(opened: Opener, keeps: bool) -> None:
    """The end id is the last id, or is not there; either way there is no stop reason."""
    here = opened({"keeps_end_id": keeps})
    result = await here.ask([5, 6, 7], ignore_eos=False, max_tokens=60)
    output = result.outputs[0]

    assert (output.finish_reason, output.stop_reason) == ("stop", None)
    assert (output.token_ids[-1] == 2) == keeps
    assert 2 not in output.token_ids[:-1]


async def test_behaviour_7_stop_ids_and_other_ends(opened: Opener) -> None:
    """A stop id is the reason and is cut; of several end ids only the tokenizer's own ends."""
    here = opened({"model": ModelFacts(end_token_ids=(2, 3))})
    free = await _free(here)
    kept = here.ask(stop_token_ids=[free[2]], include_stop_str_in_output=True)
    cut = here.ask(stop_token_ids=[free[2]])
    long = await here.ask(max_tokens=400, ignore_eos=False, min_tokens=400)

    assert (await kept).outputs[0].token_ids == free[:3]
    assert (await cut).outputs[0].token_ids == free[:2]
    assert cut.outputs[0].stop_reason == free[2]
    assert 3 in long.outputs[0].token_ids
    assert 2 not in long.outputs[0].token_ids


@pytest.mark.parametrize("drops", [False, True])
async def test_behaviour_7_ignoring_ends_may_drop_stops(opened: Opener, drops: bool) -> None:
    """With ignore_eos a stop id still ends, or by a switch does not."""
    here = opened({"ignore_eos_drops_stop_words": drops})
    free = await _free(here)
    output = (await here.ask(stop_token_ids=[free[2]])).outputs[0]

    assert output.finish_reason == ("length" if drops else "stop")


@pytest.mark.parametrize("holds", [True, False])
async def test_behaviour_7_min_tokens(opened: Opener, holds: bool) -> None:
    """End ids are held back until min_tokens, and so are stop ids, but for a switch."""
    here = opened({"min_tokens_holds_stop_words": holds})
    free = await _free(here)
    output = (await here.ask(stop_token_ids=[free[2]], min_tokens=6)).outputs[0]

    assert (len(output.token_ids) >= 6) == holds


async def test_behaviour_7_text_stops_are_the_parents(opened: Opener) -> None:
    """With detokenize a stop inside the text ends iteration, while the engine goes on."""
    here = opened({"held": True})
    result = here.ask(detokenize=True, stop="w", max_tokens=50)
    here.machine.steps(1)
    texts = [step.outputs[0].text async for step in result]

    assert texts == [""]
    assert (result.outputs[0].finish_reason, result.outputs[0].stop_reason) == ("stop", "w")
    assert here.machine.live_requests == 1


async def test_behaviour_7_text_stops_may_abort(opened: Opener) -> None:
    """Older versions abort by themselves behind a text stop."""
    here = opened({"text_stop_aborts": True})
    await here.ask(detokenize=True, stop="w", max_tokens=3000)
    await asyncio.to_thread(here.machine.wait_idle)

    assert here.machine.generated_tokens < 3000


@pytest.mark.parametrize("shape", ["dict", "float"])
async def test_behaviour_8_logprobs(opened: Opener, shape: str) -> None:
    """A mapping of the most probable ids and the sampled one, or a bare number."""
    here = opened({"logprobs_shape": shape})
    output = (await here.ask(logprobs=3, temperature=1.5)).outputs[0]

    assert len(output.logprobs) == len(output.token_ids) == 8
    for token_id, entry in zip(output.token_ids, output.logprobs, strict=True):
        if shape == "float":
            assert entry < 0
        else:
            assert isinstance(entry[token_id], Logprob)
            assert len(entry) in (3, 4)
            assert [entry[i].rank for i in list(entry)[:3]] == [1, 2, 3]


async def test_behaviour_8_zero_means_none(opened: Opener) -> None:
    """0 asks for nothing, and the list is empty or None; switched off, for the sampled id."""
    empty = await opened().ask(logprobs=0)
    none = await opened({"logprobs_not_asked": "none"}).ask(logprobs=0)
    output = (await opened({"zero_logprobs_is_none": False}).ask(logprobs=0)).outputs[0]

    assert (empty.outputs[0].logprobs, none.outputs[0].logprobs) == ([], None)
    assert SamplingParams(logprobs=True).logprobs == 1
    assert [list(entry) for entry in output.logprobs] == [[i] for i in output.token_ids]


async def test_behaviour_8_strange_values(opened: Opener) -> None:
    """Minus infinity and missing sampled ids come at every so many-th position, or never."""
    strange = opened({"minus_inf_every": 3, "sampled_id_missing_every": 4})
    plain = opened()
    for here, infinite, missing in ((strange, [2, 5], [3, 7]), (plain, [], [])):
        output = (await here.ask(logprobs=2)).outputs[0]
        pairs = list(zip(output.token_ids, output.logprobs, strict=True))

        assert [i for i, (t, e) in enumerate(pairs) if t not in e] == missing
        values = [e[t].logprob if t in e else 0.0 for t, e in pairs]
        assert [i for i, value in enumerate(values) if value == -math.inf] == infinite


@pytest.mark.parametrize("names", [False, True])
async def test_behaviour_8_prompt_logprobs(opened: Opener, names: bool) -> None:
    """One entry for each prompt id but the first; newer versions add the id itself."""
    here = opened({"prompt_logprobs_name_prompt": names})
    entries = (await here.ask(prompt_logprobs=1)).outputs[0].prompt_logprobs

    assert len(entries) == len(PROMPT) - 1
    assert all((i in e) == names for i, e in zip(PROMPT[1:], entries, strict=True))


@pytest.mark.parametrize("after", [False, True])
async def test_behaviour_8_a_bias_decides(opened: Opener, after: bool) -> None:
    """An id far up is drawn; its log probability is told without the bias, but for a switch."""
    with importable(with_torch=True):
        torch = __import__("torch")
    bias = torch.zeros(50_000, dtype=torch.float32)
    bias[500] = 100.0
    here = opened({"logprobs_after_bias": after})
    output = (await here.ask(embedding_bias=bias, logprobs=1)).outputs[0]
    narrow = here.ask(embedding_bias=torch.zeros(10))
    with pytest.raises(RequestError, match="embedding_bias"):
        await narrow

    assert output.token_ids == [500] * 8
    assert (output.logprobs[0][500].logprob > -1) == after


@pytest.mark.parametrize(
    ("forced", "reason"),
    [(None, "length"), ("timeout", "timeout"), ("unset", None), ("not_finished", "not_finished")],
)
async def test_behaviour_9_finish_reasons(
    opened: Opener, forced: str | None, reason: str | None
) -> None:
    """Each reason that there is, and a finished result without one."""
    result = await opened({"forced_finish_reason": forced}).ask()

    assert (result.finished, result.outputs[0].finish_reason) == (True, reason)


async def test_best_of_returns_the_most_probable(opened: Opener) -> None:
    """Of more outputs than asked for, the best are kept at the end, best first."""
    result = await opened().ask(n=2, best_of=4, temperature=1.0)
    values = [output.cumulative_logprob for output in result.outputs]

    assert len(values) == 2
    assert values == sorted((o.cumulative_logprob for o in result._outputs), reverse=True)[:2]

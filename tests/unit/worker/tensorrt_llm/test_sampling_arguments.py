"""Every field of a request has its keyword, and what the library's defaults would do is named."""

import json
import re
from dataclasses import replace
from typing import Any

import pytest

from headrace.common.v1 import errors_pb2
from headrace.rpc.errors import ServiceError
from worker.engine.seam import EngineRequest, Guide, SamplingParams
from worker.engine.tensorrt_llm.sampling_arguments import (
    EndTokens,
    SamplingContext,
    check_continuation,
    guide_arguments,
    is_fanned_out,
    sampling_arguments,
)

TORCH = SamplingContext(EndTokens(frozenset({2, 7}), of_guides=7), 100)
CPP = replace(TORCH, uses_cpp_sampler=True)


def _request(**fields: Any) -> EngineRequest:
    return EngineRequest("r", 0, (11, 12), fields.pop("max_tokens", 10), **fields)


def _arguments(context: SamplingContext = TORCH, **fields: Any) -> dict[str, Any]:
    return sampling_arguments(_request(**fields), context)


def test_nothing_is_left_to_the_librarys_defaults() -> None:
    """It would answer greedily, with 32 tokens, and as text."""
    assert _arguments() == {
        "max_tokens": 10,
        "n": 1,
        "best_of": 1,
        "end_id": 7,
        "pad_id": 7,
        "stop_token_ids": [2],
        "ignore_eos": False,
        "detokenize": False,
        "temperature": 1.0,
        "top_p": 1.0,
        "top_k": 0,
    }


def test_arguments_are_fresh() -> None:
    """The library writes into what it is given."""
    request = _request(stop_token_ids=frozenset({5}))
    first, second = (sampling_arguments(request, TORCH) for _ in range(2))

    assert first == second
    assert first is not second
    assert first["stop_token_ids"] is not second["stop_token_ids"]


def test_the_default_sampler_gets_what_it_honours() -> None:
    """The rest would be accepted and ignored."""
    sampling = SamplingParams(temperature=0.5, top_p=0.25, top_k=9)
    arguments = _arguments(sampling=sampling)

    assert (arguments["temperature"], arguments["top_p"], arguments["top_k"]) == (0.5, 0.25, 9)
    assert not arguments.keys() & {"seed", "min_p", "presence_penalty", "repetition_penalty"}


def test_the_cpp_sampler_gets_all() -> None:
    """Seeds are unsigned there."""
    sampling = SamplingParams(
        min_p=0.1, presence_penalty=0.2, frequency_penalty=0.3, repetition_penalty=1.4, seed=-5
    )
    arguments = _arguments(CPP, sampling=sampling)

    assert arguments["min_p"] == 0.1
    assert arguments["presence_penalty"] == 0.2
    assert arguments["frequency_penalty"] == 0.3
    assert arguments["repetition_penalty"] == 1.4
    assert arguments["seed"] == 2**64 - 5


def test_no_seed_is_a_random_one() -> None:
    """Without any the sampler would draw alike for every request."""
    seeds = {_arguments(CPP)["seed"] for _ in range(20)}

    assert len(seeds) == 20
    assert all(0 <= seed < 2**64 for seed in seeds)


@pytest.mark.parametrize(("asked", "told"), [(0, 1), (1, 1), (20, 20)])
def test_logprobs(asked: int, told: int) -> None:
    """Zero would mean none."""
    assert _arguments(logprobs=asked)["logprobs"] == told


def test_several_ends() -> None:
    """One is the library's, those of the model and of the request are stops."""
    arguments = _arguments(stop_token_ids=frozenset({5, 7}))

    assert (arguments["end_id"], arguments["stop_token_ids"]) == (7, [2, 5])


def test_ignored_ends() -> None:
    """The model's own are no stops then; the request's are, also where they are the same."""
    assert _arguments(ignore_eos=True)["stop_token_ids"] is None
    arguments = _arguments(ignore_eos=True, stop_token_ids=frozenset({5, 7}))

    assert (arguments["ignore_eos"], arguments["stop_token_ids"]) == (True, [5, 7])


def test_an_end_that_only_the_tokenizer_knows_ends_guided_answers() -> None:
    """A guide allows no other; free answers pass it."""
    context = SamplingContext(EndTokens(frozenset({2}), of_guides=9), 100)
    free, guided = _request(), _request(guide=Guide("json_object"))

    assert sampling_arguments(free, context)["stop_token_ids"] is None
    assert sampling_arguments(guided, context)["stop_token_ids"] == [9]
    assert context.ends.main == 2


def test_a_continuation_counts_its_prefix() -> None:
    """It is prompt to the library, and output to the caller."""
    prefix = (30, 31, 32)
    arguments = _arguments(output_prefix_token_ids=prefix, min_tokens=5)

    assert (arguments["max_tokens"], arguments["min_tokens"]) == (7, 2)
    assert "min_tokens" not in _arguments(output_prefix_token_ids=prefix, min_tokens=3)


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"guide": Guide("regex", "a")}, "guide.regex"),
        ({"sampling": SamplingParams(seed=0)}, "sampling.seed"),
        ({"sampling": SamplingParams(presence_penalty=1)}, "sampling.presence_penalty"),
        ({"sampling": SamplingParams(frequency_penalty=1)}, "sampling.frequency_penalty"),
    ],
)
def test_what_a_continuation_would_change_is_refused(fields: dict[str, Any], named: str) -> None:
    """By name, and only with a prefix."""
    check_continuation(_request(**fields))
    check_continuation(_request(output_prefix_token_ids=(5,)))
    with pytest.raises(ServiceError, match=named) as refused:
        check_continuation(_request(output_prefix_token_ids=(5,), **fields))

    assert refused.value.reason == errors_pb2.ERROR_REASON_UNSUPPORTED_PARAMETER
    assert refused.value.param == "output_prefix_token_ids"


def test_several_greedy_outputs_are_computed_once() -> None:
    """The library refuses them; drawn ones it computes itself."""
    greedy = _request(n=3, sampling=SamplingParams(temperature=0))
    drawn = _request(n=3)

    assert is_fanned_out(greedy)
    assert sampling_arguments(greedy, TORCH)["n"] == 1
    assert not is_fanned_out(drawn)
    assert sampling_arguments(drawn, TORCH)["n"] == sampling_arguments(drawn, TORCH)["best_of"] == 3


def test_a_bias_has_the_models_size() -> None:
    """One value for each row of the embedding."""
    sampling = SamplingParams(logit_bias=((5, 1.5), (9, -100.0)))

    assert _arguments(sampling=sampling)["embedding_bias"] == (100, ((5, 1.5), (9, -100.0)))
    assert "embedding_bias" not in _arguments()


@pytest.mark.parametrize(
    ("guide", "arguments"),
    [
        (Guide("json_schema", '{"type": "null"}'), {"json": '{"type": "null"}'}),
        (Guide("json_object"), {"json_object": True}),
        (Guide("regex", "a+"), {"regex": "a+"}),
        (Guide("grammar", 'start: "a"'), {"grammar": 'start: "a"'}),
        (
            Guide("structural_tag", '{"triggers": ["<"]}'),
            {"structural_tag": '{"type": "structural_tag", "triggers": ["<"]}'},
        ),
    ],
)
def test_guides(guide: Guide, arguments: dict[str, Any]) -> None:
    """Each kind has its keyword, and exactly one."""
    assert guide_arguments(guide) == arguments


def test_choices_are_an_expression_that_matches_nothing_else() -> None:
    """Characters with a meaning are taken literally."""
    texts = ["yes", "a.b", "(x|y)*", "100$ [net]", "\\d{2}", "+?^"]
    pattern = guide_arguments(Guide("choice", json.dumps(texts)))["regex"]

    for text in texts:
        assert re.fullmatch(pattern, text)
    for other in ("a-b", "x", "y", "12", "100", "", "yesa.b"):
        assert not re.fullmatch(pattern, other)


@pytest.mark.parametrize("text", ["", "[]", "{", "[" * 100_000])
def test_a_structural_tag_that_is_no_object(text: str) -> None:
    """It is refused before the library sees it."""
    with pytest.raises(ServiceError, match=r"guide\.structural_tag must be a JSON object"):
        guide_arguments(Guide("structural_tag", text))

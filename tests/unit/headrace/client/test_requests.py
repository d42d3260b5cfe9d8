"""From options to the wire's messages: everything is carried, unset stays unset."""

import asyncio
import dataclasses

import pytest

from headrace.client.answers import GenerationOptions, RenderedPrompt
from headrace.client.requests import detokenize_open, generation_request
from headrace.telemetry.trace_context import NO_TRACE, TraceContext
from headrace.tokenizer.v1.render_pb2 import Decoder
from headrace.worker.v1.generation_pb2 import SamplingParams

PROMPT = RenderedPrompt(
    "m", [1, 2], Decoder(model="m", tokenizer_fingerprint="f", stop_token_ids=[9])
)
BARE = GenerationOptions(request_id="r", sampling=SamplingParams())
VALUES: dict[str, object] = {
    "request_id": "other",
    "sampling": SamplingParams(top_p=0.5),
    "max_tokens": 7,
    "min_tokens": 3,
    "n": 2,
    "stop_strings": ("a", "b"),
    "stop_token_ids": (4, 5),
    "ignore_eos": True,
    "logprobs": 0,
    "cache_salt": "salt",
    "priority": -3,
    "deadline": 0.0,
    "trace": TraceContext("parent", "state"),
}


async def wires(options: GenerationOptions) -> tuple[bytes, bytes]:
    """Both messages, serialized."""
    request = generation_request(PROMPT, options, options.trace, asyncio.get_running_loop())
    entry = detokenize_open(1, PROMPT, options)
    return request.SerializeToString(), entry.SerializeToString()


def test_every_option_has_a_value_here() -> None:
    """A new option fails here until its way to the wire is tested."""
    assert {field.name for field in dataclasses.fields(GenerationOptions)} == set(VALUES)


@pytest.mark.parametrize("name", VALUES)
async def test_each_option_changes_what_is_sent(name: str) -> None:
    """No option is taken and dropped."""
    assert await wires(dataclasses.replace(BARE, **{name: VALUES[name]})) != await wires(BARE)


async def test_what_is_unset_stays_unset() -> None:
    """A bare request sets no optional field but n."""
    request = generation_request(PROMPT, BARE, NO_TRACE, asyncio.get_running_loop())
    optional = ("min_tokens", "max_tokens", "logprobs", "priority", "remaining_ms", "guide")

    assert not any(request.HasField(name) for name in optional)
    assert [] == request.sampling.ListFields()
    assert (["m", "r", 1], [1, 2]) == (
        [request.model, request.request_id, request.n],
        list(request.prompt_token_ids),
    )


@pytest.mark.parametrize(("seconds", "expected"), [(2.5, 2500), (-1.0, 0)])
async def test_a_deadline_becomes_what_remains_of_it(seconds: float, expected: int) -> None:
    """Milliseconds from now, never below 0."""
    loop = asyncio.get_running_loop()
    options = dataclasses.replace(BARE, deadline=loop.time() + seconds)
    request = generation_request(PROMPT, options, NO_TRACE, loop)

    assert expected - 100 <= request.remaining_ms <= expected


def test_the_open_carries_the_decoder_and_every_end() -> None:
    """Stop token ids of the request join the model's own; the rendered decoder is not changed."""
    options = dataclasses.replace(BARE, stop_strings=("a",), stop_token_ids=(4, 5))
    entry = detokenize_open(3, PROMPT, options)

    assert (3, ["a"], [9, 4, 5]) == (
        entry.handle,
        list(entry.stop_strings),
        list(entry.decoder.stop_token_ids),
    )
    assert [9] == list(PROMPT.decoder.stop_token_ids)

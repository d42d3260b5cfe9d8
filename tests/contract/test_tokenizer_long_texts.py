"""Long texts: they cost in proportion to their length, and nobody else waits for them."""

import asyncio
from time import perf_counter, process_time

import pytest

from headrace.common.v1 import errors_pb2
from headrace.rpc.errors import error_from_rpc
from headrace.tokenizer.v1.encoding_pb2 import CountTokensRequest
from headrace.tokenizer.v1.render_pb2 import Message, RenderRequest
from tests.support.raw_detokenize import running_tokenizer
from tests.support.tokenizer_models import (
    train_metaspace_tokenizer,
    train_tokenizer,
    train_unigram_tokenizer,
    write_model,
)
from tokenizer_svc.encoding import TextEncoder
from tokenizer_svc.registry import ModelRegistry, TokenizerModel
from tokenizer_svc.settings import TokenizerSettings

ENCODERS = {
    "bytelevel": TextEncoder(train_tokenizer()),
    "metaspace": TextEncoder(train_metaspace_tokenizer()),
    "unigram": TextEncoder(train_unigram_tokenizer()),
}
TEXTS = {
    "prose": "The water runs through the channel and turns the wheel. ",
    "one character": "a",
    "spaces": " ",
    "no spaces": "thewaterruns",
    "newlines": "\n",
    "combining marks": "e\u0301\u0302\u0303",
    "joined emoji": "👩\u200d👩\u200d👧",
    "beginnings of special tokens": "<|im_",
}


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> ModelRegistry:
    """A small model."""
    directory = write_model(tmp_path_factory.mktemp("models") / "small", train_tokenizer())
    return ModelRegistry([TokenizerModel.load(directory, TokenizerSettings())])


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("family", ENCODERS)
def test_cost_is_linear(family: str, text: str) -> None:
    """Ten times the text costs about ten times as much, whatever it is made of."""
    encoder = ENCODERS[family]

    def seconds(characters: int) -> float:
        content = (TEXTS[text] * characters)[:characters]
        begin = process_time()
        encoder.count_marked(content)
        return process_time() - begin

    short, long = (min(seconds(count) for _ in range(3)) for count in (10_000, 100_000))

    assert long < 40 * short + 0.05


async def test_the_loop_turns_while_a_long_text_is_encoded(registry: ModelRegistry) -> None:
    """A text that takes long holds the loop up for a small part of that only."""
    text = TEXTS["prose"] * (1_500_000 // len(TEXTS["prose"]))
    async with running_tokenizer(registry) as tokenizer:
        counting = asyncio.ensure_future(tokenizer.stub.CountTokens(CountTokensRequest(text=text)))
        begin = last = perf_counter()
        lags = []
        while not counting.done():
            await asyncio.sleep(0.001)
            now = perf_counter()
            lags.append(now - last)
            last = now

    assert (await counting).tokens > 100_000
    assert len(lags) > 20
    assert max(lags) < (last - begin) / 2


async def test_a_conversation_of_megabytes_is_refused_by_its_beginning(
    registry: ModelRegistry,
) -> None:
    """It costs little, and short conversations are rendered meanwhile."""
    huge = RenderRequest(messages=[Message(role="user", content=TEXTS["joined emoji"] * 500_000)])
    short = RenderRequest(messages=[Message(role="user", content="Hello")])
    async with running_tokenizer(registry) as tokenizer:
        calls = [tokenizer.stub.Render(huge) for _ in range(4)]
        answers = [await tokenizer.stub.Render(short) for _ in range(10)]
        errors = await asyncio.gather(*calls, return_exceptions=True)

    assert all(answer.prompt_token_ids for answer in answers)
    for error in errors:
        refused = error_from_rpc(error, peer="tokenizer")  # type: ignore[arg-type]
        assert refused.reason == errors_pb2.ERROR_REASON_CONTEXT_LENGTH_EXCEEDED

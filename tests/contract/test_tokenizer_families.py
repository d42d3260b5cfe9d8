"""Models of different families in one service, over real gRPC, from text to ids and back."""

import random
from collections.abc import Sequence

import pytest
from tokenizers import Tokenizer

from headrace.common.v1 import errors_pb2, finish_pb2
from headrace.tokenizer.v1.detokenize_pb2 import DetokenizeClose, DetokenizeOpen
from headrace.tokenizer.v1.encoding_pb2 import DecodeRequest, EncodeRequest
from headrace.tokenizer.v1.model_pb2 import GetModelRequest
from headrace.tokenizer.v1.render_pb2 import Decoder, Message, RenderRequest
from tests.support.raw_detokenize import RawDetokenize, running_tokenizer
from tests.support.tokenizer_models import (
    SPECIAL_TOKENS,
    train_metaspace_tokenizer,
    train_tokenizer,
    train_unigram_tokenizer,
    write_model,
)
from tokenizer_svc.registry import ModelRegistry, TokenizerModel
from tokenizer_svc.settings import TokenizerSettings

DOCUMENTS = {
    "bytelevel": train_tokenizer(),
    "metaspace": train_metaspace_tokenizer(),
    "unigram": train_unigram_tokenizer(),
}
LENGTH = finish_pb2.FINISH_REASON_LENGTH
END = SPECIAL_TOKENS[2]


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> ModelRegistry:
    """A model of each family, and a second copy of the first under another name."""
    folder = tmp_path_factory.mktemp("families")
    directories = [
        write_model(folder / name, document)
        for name, document in {**DOCUMENTS, "copy": DOCUMENTS["bytelevel"]}.items()
    ]
    return ModelRegistry(
        [TokenizerModel.load(directory, TokenizerSettings()) for directory in directories]
    )


@pytest.fixture(scope="module")
def oracles(registry: ModelRegistry) -> dict[str, Tokenizer]:
    """The models' tokenizers as their library reads them."""
    return {
        name: Tokenizer.from_file(str(registry.find(name).directory.path / "tokenizer.json"))
        for name in DOCUMENTS
    }


def opened(handle: int, decoder: Decoder, **fields: object) -> DetokenizeOpen:
    return DetokenizeOpen(handle=handle, decoder=decoder, **fields)  # type: ignore[arg-type]


def closed(handle: int) -> DetokenizeClose:
    return DetokenizeClose(handle=handle, finish_reason=LENGTH)


def random_ids(oracle: Tokenizer, seed: int, count: int) -> list[int]:
    """Ids of whole and broken characters; every fourth is a byte token where there are some."""
    draw = random.Random(seed)
    size = oracle.get_vocab_size()
    return [draw.randrange(max(size - 128, 0) if n % 4 == 0 else 0, size) for n in range(count)]


@pytest.mark.parametrize("name", DOCUMENTS)
async def test_prompts_and_texts_have_the_models_own_ids(
    registry: ModelRegistry, oracles: dict[str, Tokenizer], name: str
) -> None:
    """Render, Encode and Decode name a model and get its tokenizer."""
    oracle = oracles[name]
    text = "Hello, world! 日本 😀 <|im_end|>" if name != "unigram" else "Hello, world!"
    prompt = "<|im_start|>user\nHow are you<|im_end|>\n<|im_start|>assistant\n"
    async with running_tokenizer(registry) as tokenizer:
        stub = tokenizer.stub
        rendered = await stub.Render(
            RenderRequest(model=name, messages=[Message(role="user", content="How are you")])
        )
        encoded = await stub.Encode(EncodeRequest(model=name, text=text))
        decoded = await stub.Decode(DecodeRequest(model=name, token_ids=encoded.token_ids))
        allowed = await stub.Encode(EncodeRequest(model=name, text=text, allow_special_tokens=True))

    assert rendered.prompt_token_ids == oracle.encode(prompt, add_special_tokens=False).ids
    assert allowed.token_ids == oracle.encode(text, add_special_tokens=False).ids
    assert oracle.token_to_id(END) not in encoded.token_ids
    assert decoded.text == oracle.decode(list(encoded.token_ids)) == text


async def test_outputs_of_all_families_share_a_stream(
    registry: ModelRegistry, oracles: dict[str, Tokenizer]
) -> None:
    """Interleaved in the same frames, each output becomes the text of its own model."""
    ids = {name: random_ids(oracle, 3, 120) for name, oracle in oracles.items()}
    handles = {name: handle for handle, name in enumerate(DOCUMENTS, 1)}
    opens = [
        opened(handle, registry.find(name).decoder(), stop_strings=["never said"])
        for name, handle in handles.items()
    ]
    async with running_tokenizer(registry) as tokenizer:
        edge = RawDetokenize(tokenizer.stub)
        await edge.send(opens=opens)
        for start in range(0, 120, 3):
            await edge.send(
                feeds=[(handles[name], ids[name][start : start + 3]) for name in DOCUMENTS]
            )
        await edge.send(closes=[closed(handle) for handle in handles.values()])
        outputs = {name: await edge.output(handles[name], closed=True) for name in DOCUMENTS}

    assert {name: seen.text for name, seen in outputs.items()} == {
        name: oracles[name].decode(ids[name]) for name in DOCUMENTS
    }
    assert {seen.released for seen in outputs.values()} == {120}


@pytest.mark.parametrize("name", DOCUMENTS)
async def test_an_output_goes_on_at_another_replica(
    registry: ModelRegistry, oracles: dict[str, Tokenizer], name: str
) -> None:
    """Opened with the acknowledged tokens, another service adds exactly what was missing."""
    oracle = oracles[name]
    ids = random_ids(oracle, 11, 60)
    decoder = registry.find(name).decoder()
    for cut in range(0, 60, 7):
        async with running_tokenizer(registry) as first, running_tokenizer(registry) as second:
            edge = RawDetokenize(first.stub)
            await edge.send(opens=[opened(1, decoder)], feeds=[(1, ids[:cut])])
            seen = await edge.output(1, entries=1)
            other = RawDetokenize(second.stub)
            again = opened(5, decoder, prior_token_ids=ids[:cut], released_tokens=seen.released)
            await other.send(opens=[again], feeds=[(5, ids[cut:])], closes=[closed(5)])
            rest = await other.output(5, closed=True)

        assert seen.text + rest.text == oracle.decode(ids)


@pytest.mark.parametrize("name", DOCUMENTS)
async def test_a_stop_string_ends_an_output(
    registry: ModelRegistry, oracles: dict[str, Tokenizer], name: str
) -> None:
    """In every family it is found across tokens, and the text in front of it is all there is."""
    ids = oracles[name].encode("Hello, world! How are you today?", add_special_tokens=False).ids
    request = opened(1, registry.find(name).decoder(), stop_strings=["ld! How", "today"])
    async with running_tokenizer(registry) as tokenizer:
        edge = RawDetokenize(tokenizer.stub)
        await edge.send(opens=[request])
        for token_id in ids:
            await edge.send(feeds=[(1, [token_id])])
        await edge.send(closes=[closed(1)])
        seen = await edge.output(1, closed=True)

    assert seen.text == "Hello, wor"
    assert seen.stop is not None
    assert seen.stop.stop_index == 0


async def test_fingerprints_tell_tokenizers_apart(registry: ModelRegistry) -> None:
    """Families differ, a copy under another name does not, and a wrong one is refused."""
    names: Sequence[str] = registry.names
    async with running_tokenizer(registry) as tokenizer:
        answers = [await tokenizer.stub.GetModel(GetModelRequest(model=name)) for name in names]
        prints = {answer.model: answer.tokenizer_fingerprint for answer in answers}
        mixed = registry.find("metaspace").decoder()
        mixed.tokenizer_fingerprint = prints["bytelevel"]
        edge = RawDetokenize(tokenizer.stub)
        await edge.send(opens=[opened(1, mixed)])
        failed = await edge.failed(1)

    assert names == [*DOCUMENTS, "copy"]
    assert prints["copy"] == prints["bytelevel"]
    assert len(set(prints.values())) == len(DOCUMENTS)
    assert failed.failure.reason == errors_pb2.ERROR_REASON_INCOMPATIBLE_PEER
    assert prints["metaspace"] in failed.failure.message

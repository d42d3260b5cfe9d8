"""Outputs opened with token_bytes: which bytes of the text each token spells (protos/README.md)."""

import random
from collections.abc import Sequence
from itertools import pairwise

import grpc
import pytest

from headrace.common.v1 import errors_pb2
from headrace.common.v1.finish_pb2 import FINISH_REASON_LENGTH
from headrace.rpc.errors import error_from_rpc
from headrace.tokenizer.v1.detokenize_pb2 import (
    DetokenizeClose,
    DetokenizeOpen,
    DetokenizeRequest,
    TokenAlternatives,
)
from tests.support.raw_detokenize import RawDetokenize, SeenOutput, running_tokenizer
from tests.support.tokenizer_models import (
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
FACE = "😀".encode()


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> ModelRegistry:
    """A model of each family."""
    folder = tmp_path_factory.mktemp("families")
    directories = [write_model(folder / name, document) for name, document in DOCUMENTS.items()]
    return ModelRegistry(
        [TokenizerModel.load(directory, TokenizerSettings()) for directory in directories]
    )


def ids_of(model: TokenizerModel, *tokens: bytes) -> list[int]:
    """Ids of tokens with exactly these bytes; byte tokens for what no other says."""
    vocabulary = model.vocabulary
    found = {vocabulary.token_bytes[token_id]: token_id for token_id in vocabulary.byte_ids}
    others = set(range(len(vocabulary.token_bytes))) - vocabulary.byte_ids
    found |= {vocabulary.token_bytes[token_id]: token_id for token_id in others}
    return [found[token] for token in tokens]


def opening(model: TokenizerModel, handle: int, *stops: str, **more: object) -> DetokenizeOpen:
    values = {"decoder": model.decoder(), "stop_strings": stops, "token_bytes": True} | more
    return DetokenizeOpen(handle=handle, **values)


def closing(handle: int) -> DetokenizeClose:
    return DetokenizeClose(handle=handle, finish_reason=FINISH_REASON_LENGTH)


def each_with(handle: int, token_ids: Sequence[int], count: int) -> TokenAlternatives:
    """Alternatives that follow from the token, so that they can be told apart."""
    ids = [(token_id + place) % 40 + 3 for token_id in token_ids for place in range(count)]
    return TokenAlternatives(handle=handle, counts=[count] * len(token_ids), token_ids=ids)


async def said(
    raw: RawDetokenize, handle: int, frames: Sequence[Sequence[int]], alternatives: int = 0
) -> SeenOutput:
    """Feed an open output in these frames, and close it."""
    for frame in frames:
        offered = [each_with(handle, frame, alternatives)] if alternatives else []
        await raw.send(feeds=[(handle, frame)], alternatives=offered)
    await raw.send(closes=[closing(handle)])
    return await raw.output(handle, closed=True)


@pytest.mark.parametrize("name", DOCUMENTS)
async def test_every_split_over_frames_spells_the_text_alike(
    registry: ModelRegistry, name: str
) -> None:
    """The tokens' bytes are the text's, token for token the same however they were fed."""
    model = registry.find(name)
    draw = random.Random(name)
    size = len(model.vocabulary.token_bytes)
    lowest = max(0, size - 300)
    async with running_tokenizer(registry) as tokenizer:
        raw = RawDetokenize(tokenizer.stub)
        for handle in range(0, 160, 4):
            ids = [draw.randrange(draw.choice((0, lowest)), size) for _ in range(16)]
            stops = draw.sample(["a", "th", "\ufffd", "e", " t"], draw.randrange(3))
            cuts = sorted(draw.randrange(16) for _ in range(3))
            borders = [0, *cuts, 16]
            splits = ([[i] for i in ids], [ids], [ids[a:b] for a, b in pairwise(borders)])
            await raw.send([opening(model, handle + at, *stops) for at in range(3)])
            seen = [await said(raw, handle + at, split, 2) for at, split in enumerate(splits)]
            await raw.send([opening(model, handle + 3, *stops, token_bytes=False)])
            plain = await said(raw, handle + 3, [ids])

            assert {each.text for each in seen} == {plain.text}
            assert b"".join(seen[0].spelled).decode() == plain.text
            assert seen[0].spelled == seen[1].spelled == seen[2].spelled
            assert seen[0].alternatives == seen[1].alternatives == seen[2].alternatives
            assert len(seen[0].alternatives) == 2 * len(seen[0].spelled)
            assert not plain.spelled


async def test_a_character_over_several_tokens(registry: ModelRegistry) -> None:
    """Each token spells its own bytes; those of a whole character come in one frame."""
    model = registry.find("bytelevel")
    ids = ids_of(model, b"a", *(FACE[i : i + 1] for i in range(4)))
    async with running_tokenizer(registry) as tokenizer:
        raw = RawDetokenize(tokenizer.stub)
        await raw.send([opening(model, 1)])
        seen = await said(raw, 1, [[i] for i in ids])

    frames = [entry for frame in raw.frames for entry in frame.token_bytes]
    assert seen.text == "a😀"
    assert seen.spelled == [b"a", *(FACE[i : i + 1] for i in range(4))]
    assert [list(entry.lengths) for entry in frames] == [[1], [1, 1, 1, 1]]


async def test_every_frame_spells_its_own_deltas(registry: ModelRegistry) -> None:
    """However the ids break characters, a frame's bytes are those of the text that it carries."""
    model = registry.find("bytelevel")
    draw = random.Random(3)
    ids = [draw.randrange(len(model.vocabulary.token_bytes)) for _ in range(200)]
    async with running_tokenizer(registry) as tokenizer:
        raw = RawDetokenize(tokenizer.stub)
        await raw.send([opening(model, 1, "zz")])
        await said(raw, 1, [[i] for i in ids])

    for frame in raw.frames:
        spelled = b"".join(entry.spelled for entry in frame.token_bytes)
        assert spelled.decode() == "".join(frame.deltas)


async def test_bytes_that_are_no_character_share_its_replacement(registry: ModelRegistry) -> None:
    """U+FFFD goes to the bytes that it stands for; in a run of byte fallback, to each one whole."""
    broken = [FACE[:1], FACE[1:2], b"a"]
    async with running_tokenizer(registry) as tokenizer:
        raw = RawDetokenize(tokenizer.stub)
        models = registry.find("bytelevel"), registry.find("metaspace")
        await raw.send([opening(model, at) for at, model in enumerate(models)])
        one, each = [
            await said(raw, at, [ids_of(model, *broken)]) for at, model in enumerate(models)
        ]

    assert (one.text, one.spelled) == ("\ufffda", [b"\xef", b"\xbf\xbd", b"a"])
    assert (each.text, each.spelled) == ("\ufffd\ufffda", [b"\xef\xbf\xbd"] * 2 + [b"a"])


async def test_a_stop_string_cuts_the_tokens_bytes(registry: ModelRegistry) -> None:
    """The token in which it begins spells what is in front of it; those behind are not answered."""
    model = registry.find("bytelevel")
    ids = model.encoder.encode("Hello, world! How")
    async with running_tokenizer(registry) as tokenizer:
        raw = RawDetokenize(tokenizer.stub)
        await raw.send([opening(model, 1, "o, w")])
        await raw.send(feeds=[(1, ids)], alternatives=[each_with(1, ids, 1)])
        seen = await raw.output(1, entries=1)

    assert seen.stop is not None
    assert seen.text == "Hell"
    assert b"".join(seen.spelled) == b"Hell"
    assert all(seen.spelled)
    assert len(seen.alternatives) == len(seen.spelled) < seen.consumed


async def test_the_space_that_a_text_loses_in_front(registry: ModelRegistry) -> None:
    """It is no byte of its token; what might have stood there instead loses it too."""
    model = registry.find("metaspace")
    ids = model.encoder.encode("the water")
    first, *rest = ids
    at_first = TokenAlternatives(handle=1, counts=[1, 1], token_ids=[first, first])
    async with running_tokenizer(registry) as tokenizer:
        raw = RawDetokenize(tokenizer.stub)
        await raw.send([opening(model, 1)])
        await raw.send(feeds=[(1, [first, first])], alternatives=[at_first])
        seen = await said(raw, 1, [rest])

    word = model.vocabulary.token_bytes[first]
    assert word.startswith(b" ")
    assert seen.spelled[:2] == [word[1:], word]
    assert seen.alternatives == [word[1:], word]
    assert b"".join(seen.spelled).decode() == seen.text


async def test_special_and_end_tokens_spell_nothing(registry: ModelRegistry) -> None:
    """They are answered with no bytes, so that positions hold; as alternatives they say a name."""
    model = registry.find("bytelevel")
    [word] = ids_of(model, b"a")
    [end] = model.decoder().stop_token_ids
    offered = TokenAlternatives(handle=1, counts=[0, 2], token_ids=[end, word])
    async with running_tokenizer(registry) as tokenizer:
        raw = RawDetokenize(tokenizer.stub)
        await raw.send([opening(model, 1)])
        await raw.send(feeds=[(1, [word, end])], alternatives=[offered])
        seen = await said(raw, 1, [])

    assert (seen.text, seen.spelled) == ("a", [b"a", b""])
    assert seen.alternatives == [b"<|im_end|>", b"a"]


@pytest.mark.parametrize("name", DOCUMENTS)
async def test_an_output_goes_on_at_another_replica(registry: ModelRegistry, name: str) -> None:
    """Wherever it was cut, both together spell the text once, with all alternatives."""
    model = registry.find(name)
    size = len(model.vocabulary.token_bytes)
    ids = [random.Random(name).randrange(max(0, size - 200), size) for _ in range(24)]
    async with running_tokenizer(registry) as one, running_tokenizer(registry) as other:
        first, second = RawDetokenize(one.stub), RawDetokenize(other.stub)
        await first.send([opening(model, 1)])
        whole = await said(first, 1, [ids], 1)
        for cut in range(len(ids)):
            handle, known = cut + 2, min(len(ids), cut + 2)
            await first.send([opening(model, handle)], [(handle, ids[:cut])])
            seen = await first.output(handle, entries=1)
            behind = each_with(handle, ids[seen.released : known], 1)
            again = opening(
                model,
                handle,
                prior_token_ids=ids[:known],
                released_tokens=seen.released,
                prior_alternatives=behind,
            )
            await second.send([again])
            rest = await said(second, handle, [ids[known:]], 1)

            assert seen.text + rest.text == whole.text
            assert seen.spelled + rest.spelled == whole.spelled
            assert rest.alternatives == whole.alternatives[seen.released :]


async def test_a_place_within_a_character_is_refused(registry: ModelRegistry) -> None:
    """Released tokens that no acknowledgement can have named fail the output by name."""
    model = registry.find("bytelevel")
    ids = ids_of(model, b"a", FACE[:1], FACE[1:2])
    async with running_tokenizer(registry) as tokenizer:
        raw = RawDetokenize(tokenizer.stub)
        await raw.send([opening(model, 1, prior_token_ids=ids, released_tokens=2)])
        failure = (await raw.failed(1)).failure

    assert failure.reason == errors_pb2.ERROR_REASON_INVALID_REQUEST
    assert "released_tokens is 2" in failure.message


@pytest.mark.parametrize(
    ("handle", "counts", "part"),
    [(1, [2], "add up to 2"), (1, [0, 1], "1 tokens too many"), (2, [1], "output 2")],
)
async def test_alternatives_that_contradict_end_the_stream(
    registry: ModelRegistry, handle: int, counts: list[int], part: str
) -> None:
    """Other counts, more tokens than are fed, or an output that did not ask: a bug of the edge."""
    model = registry.find("bytelevel")
    async with running_tokenizer(registry) as tokenizer:
        raw = RawDetokenize(tokenizer.stub)
        await raw.send([opening(model, 1), opening(model, 2, token_bytes=False)])
        offered = TokenAlternatives(handle=handle, counts=counts, token_ids=[50])
        frame = DetokenizeRequest(
            handles=[1, 2], counts=[1, 1], token_ids=[50, 50], alternatives=[offered]
        )
        await raw.send_frame(frame)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await raw.read_to_end()

    assert part in error_from_rpc(caught.value, peer="tokenizer").message

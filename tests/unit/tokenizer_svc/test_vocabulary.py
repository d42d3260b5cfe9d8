"""What ids say, against the tokenizers library."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from headrace.runtime.errors import StartError
from tests.support.tokenizer_models import SPECIAL_TOKENS
from tokenizer_svc.vocabulary import read_vocabulary, vocabulary_from_document

METASPACE_TOKENS = ["<unk>", "</s>", "▁", "▁a", "b", "<0xE6>", "<0x97>", "<0xA5>", "日", "▁▁"]
METASPACE_TOKENS += ["", "▁▁c", "<0xff>", "<0x20>", "<0x41>", "<0x4>", "a▁b"]


def metaspace_document(decoder: dict[str, Any]) -> dict[str, Any]:
    return {
        "model": {
            "type": "BPE",
            "vocab": {token: token_id for token_id, token in enumerate(METASPACE_TOKENS)},
            "merges": [],
            "byte_fallback": True,
        },
        "added_tokens": [
            {"id": number, "content": token, "special": True, **dict.fromkeys(flags(), False)}
            for number, token in enumerate(METASPACE_TOKENS[:2])
        ],
        "decoder": decoder,
    }


def flags() -> tuple[str, ...]:
    return ("single_word", "lstrip", "rstrip", "normalized")


LLAMA_DECODER = {
    "type": "Sequence",
    "decoders": [
        {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
        {"type": "ByteFallback"},
        {"type": "Fuse"},
        {"type": "Strip", "content": " ", "start": 1, "stop": 0},
    ],
}


def test_tokens_spell_every_text(document: dict[str, Any], tokenizer: Tokenizer) -> None:
    """The bytes of a text's tokens are the text's bytes."""
    vocabulary = vocabulary_from_document(document)
    text = "Hello, wörld! 日本 😀\n\t\x00 naïve"

    ids = tokenizer.encode(text).ids

    assert b"".join(vocabulary.token_bytes[i] for i in ids) == text.encode()


@settings(max_examples=200)
@given(data=st.data())
def test_decoding_agrees_with_the_library(
    document: dict[str, Any], tokenizer: Tokenizer, data: st.DataObject
) -> None:
    """Any ids decode as the library decodes them, with and without special tokens."""
    vocabulary = vocabulary_from_document(document)
    size = len(vocabulary.token_bytes)
    ids = data.draw(st.lists(st.integers(0, size - 1), max_size=30))

    assert vocabulary.decode(ids) == tokenizer.decode(ids)
    assert vocabulary.decode(ids, keep_special_tokens=True) == tokenizer.decode(
        ids, skip_special_tokens=False
    )


def test_special_tokens_and_padding_have_no_text(document: dict[str, Any]) -> None:
    """Special ids and ids without a token are silent; special ones have their bytes where kept."""
    size = len(document["model"]["vocab"])
    vocabulary = vocabulary_from_document(document, size + 3)

    assert sorted(vocabulary.special_bytes.values()) == sorted(
        token.encode() for token in SPECIAL_TOKENS
    )
    assert vocabulary.silent_ids == {*vocabulary.special_bytes, size, size + 1, size + 2}
    assert all(vocabulary.token_bytes[i] == b"" for i in vocabulary.silent_ids)


@pytest.mark.parametrize("content", ["Ġcall é", "é", "Ġx", "日", "<think>", "a b"])
def test_added_tokens_are_decoded_as_all_others(document: dict[str, Any], content: str) -> None:
    """Ordinary added tokens go through the decoder, whatever their spelling then means."""
    added = {"id": 9, "content": content, "special": False, **dict.fromkeys(flags(), False)}
    changed = {**document, "added_tokens": [*document["added_tokens"], added]}
    changed["added_tokens"][-1]["id"] = len(document["model"]["vocab"])
    oracle = Tokenizer.from_str(json.dumps(changed))
    ids = [oracle.token_to_id(content)]

    assert vocabulary_from_document(changed).decode(ids) == oracle.decode(ids)


@pytest.mark.parametrize(
    ("ids", "text"),
    [([3, 4], "ab"), ([2, 3], " a"), ([4, 3, 9], "b a  "), ([0, 3, 5, 6, 7, 8, 1], "a日日")],
)
def test_metaspace_with_byte_fallback_agrees_with_the_library(ids: list[int], text: str) -> None:
    """Marks are spaces, byte tokens are bytes, and the first space goes."""
    document = metaspace_document(LLAMA_DECODER)
    oracle = Tokenizer.from_str(json.dumps({"version": "1.0", **document}))

    assert vocabulary_from_document(document).decode(ids) == text
    assert oracle.decode(ids) == text


REPLACE, BYTES, FUSE, STRIP = LLAMA_DECODER["decoders"]
DECODERS = {
    "llama": LLAMA_DECODER,
    "gemma": {"type": "Sequence", "decoders": [REPLACE, BYTES, FUSE]},
    "always": {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": True},
    "first": {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "first", "split": True},
    "never": {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "never", "split": True},
}
DECODERS["both"] = {"type": "Sequence", "decoders": [DECODERS["always"], BYTES]}


@settings(max_examples=200)
@given(
    decoder=st.sampled_from(list(DECODERS)),
    ids=st.lists(st.integers(0, len(METASPACE_TOKENS) - 1), max_size=12),
)
def test_metaspace_decoders_agree_with_the_library(decoder: str, ids: list[int]) -> None:
    """Spaces in front, and runs of bytes that are no text, come out as the library has them."""
    document = metaspace_document(DECODERS[decoder])
    vocabulary = vocabulary_from_document(document)
    oracle = Tokenizer.from_str(json.dumps({"version": "1.0", **document}))

    assert vocabulary.decode(ids) == oracle.decode(ids)
    assert vocabulary.decode(ids, keep_special_tokens=True) == oracle.decode(
        ids, skip_special_tokens=False
    )


@pytest.mark.parametrize(
    ("steps", "part"),
    [
        ([BYTES, REPLACE, FUSE], "is not supported"),
        ([REPLACE, BYTES, STRIP], "is not supported"),
        ([REPLACE, FUSE, BYTES], "is not supported"),
        ([{"type": "ByteLevel"}, STRIP], "is not supported"),
        ([REPLACE, BYTES, FUSE, {**STRIP, "start": 2}], "strips something else"),
        ([REPLACE, BYTES, FUSE, {**STRIP, "stop": 1}], "strips something else"),
        ([{**REPLACE, "content": "_"}], "replaces something else"),
        ([{**REPLACE, "pattern": {"Regex": "x"}}], "replaces something else"),
    ],
)
def test_decoders_of_another_order_are_refused(steps: list[dict[str, Any]], part: str) -> None:
    """A decoder whose result would differ from ours is refused, not approximated."""
    with pytest.raises(ValueError, match=part):
        vocabulary_from_document(metaspace_document({"type": "Sequence", "decoders": steps}))


def test_a_family_that_is_not_known_is_refused_by_name(
    document: dict[str, Any], tmp_path: Path
) -> None:
    """The start ends with a sentence that names file and decoder."""
    file = tmp_path / "tokenizer.json"
    file.write_text(json.dumps({**document, "decoder": {"type": "WordPiece"}}))

    with pytest.raises(StartError, match=r"tokenizer\.json .* \['WordPiece'\] is not supported"):
        read_vocabulary(file)


@pytest.mark.parametrize("content", ["{", "{}", '{"model": {}}', '{"model": {"vocab": 3}}', "[]"])
def test_a_broken_file_stops_the_start(content: str, tmp_path: Path) -> None:
    """Whatever is wrong with the file, the start ends with one sentence that names it."""
    file = tmp_path / "tokenizer.json"
    file.write_text(content)

    with pytest.raises(StartError, match=r"tokenizer\.json is no usable tokenizer"):
        read_vocabulary(file)


def test_a_missing_file_stops_the_start(tmp_path: Path) -> None:
    """The sentence names the file."""
    with pytest.raises(StartError, match="cannot be read: No such file"):
        read_vocabulary(tmp_path / "tokenizer.json")

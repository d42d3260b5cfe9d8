"""What ids say, against the tokenizers library."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders

from headrace.runtime.errors import StartError
from tests.support.tokenizer_models import SPECIAL_TOKENS
from tokenizer_svc.vocabulary import read_vocabulary, vocabulary_from_document

METASPACE_TOKENS = ["<unk>", "</s>", "▁", "▁a", "b", "<0xE6>", "<0x97>", "<0xA5>", "日", "▁▁"]


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


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
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
    """Special ids and ids without a token have no bytes; special ones keep their spelling."""
    size = len(document["model"]["vocab"])
    vocabulary = vocabulary_from_document(document, size + 3)

    assert sorted(vocabulary.special_tokens.values()) == sorted(SPECIAL_TOKENS)
    assert vocabulary.token_texts[-3:] == ["", "", ""]
    assert all(vocabulary.token_bytes[i] == b"" for i in vocabulary.special_tokens)


def test_incomplete_characters_have_no_text_of_their_own(document: dict[str, Any]) -> None:
    """A token that is not whole characters has bytes and no text."""
    vocabulary = vocabulary_from_document(document)
    index = vocabulary.token_bytes.index(b"\xe6")

    assert vocabulary.token_texts[index] is None


def test_added_tokens_that_are_not_special_are_literal_text(document: dict[str, Any]) -> None:
    """Their spelling is not read in the byte alphabet."""
    added = {"id": 9, "content": "Ġcall é", "special": False}
    changed = {**document, "added_tokens": [added]}

    assert vocabulary_from_document(changed).token_bytes[9] == "Ġcall é".encode()


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


@pytest.mark.parametrize(("scheme", "strips"), [("always", True), ("never", False)])
def test_metaspace_decoder_strips_where_it_prepends(scheme: str, strips: bool) -> None:
    """The space that encoding puts in front is taken away again."""
    decoder = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": scheme, "split": True}
    vocabulary = vocabulary_from_document(metaspace_document(decoder))
    oracle = decoders.Metaspace(replacement="▁", prepend_scheme=scheme)

    assert vocabulary.strips_leading_space is strips
    assert vocabulary.decode([3, 4]) == oracle.decode(["▁a", "b"])


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

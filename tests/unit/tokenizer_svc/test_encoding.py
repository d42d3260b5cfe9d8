"""Text to ids: equal to the library's, and special tokens only where they are meant."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers

from headrace.runtime.errors import StartError
from tests.support.tokenizer_models import SPECIAL_TOKENS
from tokenizer_svc.encoding import TextEncoder, TooManyTokensError, exceeds

END = "<|im_end|>"
texts = st.lists(
    st.one_of(st.text(max_size=8), st.sampled_from([*SPECIAL_TOKENS, "<|im_", "end|>", " the "]))
).map("".join)


@settings(max_examples=200)
@given(text=texts)
def test_encoding_is_the_librarys(encoder: TextEncoder, tokenizer: Tokenizer, text: str) -> None:
    """Ids are those of the plain tokenizer, special tokens included."""
    assert encoder.encode(text) == tokenizer.encode(text, add_special_tokens=False).ids


@settings(max_examples=200)
@given(text=texts)
def test_marked_encoding_reads_no_special_token(
    encoder: TextEncoder, tokenizer: Tokenizer, text: str
) -> None:
    """Text that spells special tokens becomes ordinary ids that decode to the same text."""
    ids = encoder.encode_marked(text)

    assert not {tokenizer.token_to_id(token) for token in SPECIAL_TOKENS} & set(ids)
    assert tokenizer.decode(ids, skip_special_tokens=False) == text


@settings(max_examples=200)
@given(parts=st.lists(st.text(max_size=6), min_size=1, max_size=5))
def test_marks_split_as_special_tokens_do(encoder: TextEncoder, parts: list[str]) -> None:
    """Ordinary text around marks has the ids that it has around the special tokens."""
    mark = encoder.marks[END]

    assert encoder.encode_marked(mark.join(parts)) == encoder.encode(END.join(parts))


@pytest.mark.parametrize("scheme", ["always", "first", "never"])
@pytest.mark.parametrize("normalizer", [None, normalizers.Prepend("_"), normalizers.NFKC()])
def test_marks_split_as_special_tokens_do_in_other_families(
    scheme: str, normalizer: normalizers.Normalizer | None
) -> None:
    """Spaces and prefixes that a tokenizer puts in are the same around both."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme)
    if normalizer is not None:
        tokenizer.normalizer = normalizer
    trainer = trainers.BpeTrainer(vocab_size=60, show_progress=False, special_tokens=["<s>", END])
    tokenizer.train_from_iterator(["_the water runs and the wheel turns ﬁne"] * 3, trainer)
    encoder = TextEncoder(json.loads(tokenizer.to_str()))
    text = f"{END}the water{END} runs {END}{END}ﬁne"

    assert encoder.encode_marked(text.replace(END, encoder.marks[END])) == encoder.encode(text)
    assert encoder.encode(text) == tokenizer.encode(text, add_special_tokens=False).ids


def test_moved_ids_and_flags_are_those_of_the_document(document: dict[str, Any]) -> None:
    """Special and ordinary added tokens, in any order, keep their ids and whitespace rules."""
    size = len(document["model"]["vocab"])
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    names = [("<a>", True), ("<tool>", False), ("<b>", True), ("<x>", False)]
    added = [
        {"id": size + number, "content": name, "special": special, **flags}
        for number, (name, special) in enumerate(names)
    ]
    added[2]["rstrip"] = True
    encoder = TextEncoder({**document, "added_tokens": [*document["added_tokens"], *added]})
    text = "x<a> y<tool>z<b> \n w<x>"

    marked = text.replace("<a>", encoder.marks["<a>"]).replace("<b>", encoder.marks["<b>"])

    assert set(range(size, size + 4)) <= set(encoder.encode(text))
    assert encoder.encode_marked(marked) == encoder.encode(text)


def test_truncation_and_padding_of_the_file_are_ignored(document: dict[str, Any]) -> None:
    """A tokenizer.json that was saved with truncation still encodes the whole text."""
    tokenizer = Tokenizer.from_str(json.dumps(document))
    tokenizer.enable_truncation(2)
    tokenizer.enable_padding(length=50)
    encoder = TextEncoder(json.loads(tokenizer.to_str()))

    assert encoder.encode("The water runs") == TextEncoder(document).encode("The water runs")


@settings(max_examples=50)
@given(text=texts)
def test_counts_are_those_of_the_ids(encoder: TextEncoder, text: str) -> None:
    """Counting makes no list and comes to the same."""
    assert encoder.count(text) == len(encoder.encode(text))
    assert encoder.count_marked(text) == len(encoder.encode_marked(text))


def test_more_tokens_than_allowed_are_refused(encoder: TextEncoder) -> None:
    """The bound itself is allowed, and the error has the number."""
    text = "The water runs"
    count = encoder.count(text)

    assert encoder.encode(text, count) == encoder.encode(text)
    for encode in (encoder.encode, encoder.encode_marked):
        with pytest.raises(TooManyTokensError) as caught:
            encode(text, count - 1)
        assert caught.value.count == count


def test_a_document_that_is_no_tokenizer_stops_the_start() -> None:
    """The start ends with one sentence."""
    with pytest.raises(StartError, match="the tokenizer cannot be loaded"):
        TextEncoder({"model": {"type": "Nothing"}})


def test_a_text_that_is_far_too_long_is_not_encoded_whole(encoder: TextEncoder) -> None:
    """Only a beginning in proportion to the bound is encoded."""
    lengths = []

    def counting(text: str) -> int:
        lengths.append(len(text))
        return encoder.count(text)

    too_many = exceeds(counting, "The water runs. " * 10_000, 100)

    assert too_many is not None
    assert too_many > 100
    assert sum(lengths) < 10_000


@settings(max_examples=60)
@given(text=st.text(max_size=30).map(lambda part: part * 60), bound=st.integers(1, 60))
def test_only_a_text_that_is_too_long_is_found_to_be(
    encoder: TextEncoder, text: str, bound: int
) -> None:
    """What a beginning says is true of the whole."""
    too_many = exceeds(encoder.count, text, bound)

    assert too_many is None or bound < too_many <= len(encoder.encode(text))

"""The state machine for byte fallback and first-token rules, against the library's decoding."""

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from time import process_time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from headrace.rpc.errors import ServiceError
from tests.support.tokenizer_models import train_metaspace_tokenizer, train_unigram_tokenizer
from tokenizer_svc.detokenizer import DecodingRules, Detokenizer
from tokenizer_svc.fallback_detokenizer import FallbackDetokenizer, detokenizer_class
from tokenizer_svc.vocabulary import Vocabulary, vocabulary_from_document

DOCUMENTS = {"metaspace": train_metaspace_tokenizer(), "unigram": train_unigram_tokenizer()}
ORACLES = {
    family: Tokenizer.from_str(json.dumps(document)) for family, document in DOCUMENTS.items()
}
VOCABULARIES = {
    family: vocabulary_from_document(document) for family, document in DOCUMENTS.items()
}
FACE = "😀".encode()


def byte_token(byte: int) -> int:
    token_id: int = ORACLES["metaspace"].token_to_id(f"<0x{byte:02X}>")
    return token_id


def token(text: str, family: str = "metaspace") -> int:
    token_id: int = ORACLES[family].token_to_id(text)
    assert token_id is not None, text
    return token_id


def ids(*parts: bytes | str) -> list[int]:
    """Byte tokens for bytes, the token of that spelling for texts."""
    out: list[int] = []
    for part in parts:
        out.extend([token(part)] if isinstance(part, str) else map(byte_token, part))
    return out


END = "<|im_end|>"
# Whole and broken characters, a space as a byte, marks, ordinary and special tokens.
INTERESTING = ids(
    FACE, "é".encode(), "日".encode(), b"\x80\xff \xc2aE\xed\xa0", "▁", "▁t", "a", "e", "H", END
)
METASPACE_IDS = st.lists(st.sampled_from(INTERESTING), max_size=16)
UNIGRAM_IDS = st.lists(st.integers(0, len(VOCABULARIES["unigram"].token_bytes) - 1), max_size=16)
CASES = st.tuples(st.just("metaspace"), METASPACE_IDS) | st.tuples(st.just("unigram"), UNIGRAM_IDS)
STOPS = st.lists(
    st.sampled_from(["a", " t", "é", "日a", "\ufffd", "a\ufffd", "\ufffd\ufffd", " ", "E", "ta"]),
    max_size=3,
)
CUTS = st.lists(st.integers(0, 16), max_size=5)


@dataclass
class Outcome:
    """What a peer sees of an output, however it was fed."""

    text: str
    stop_index: int | None
    consumed: int
    released: int


def new(family: str, *stops: str) -> Detokenizer:
    vocabulary = VOCABULARIES[family]
    return detokenizer_class(vocabulary)(DecodingRules(vocabulary, stops))


def run(state: Detokenizer, token_ids: Sequence[int], cuts: Sequence[int], text: str) -> Outcome:
    """Feed in frames that end at `cuts`, then flush."""
    borders = [0, *sorted(min(cut, len(token_ids)) for cut in cuts), len(token_ids)]
    for start, end in pairwise(borders):
        text += state.feed(token_ids[start:end])
    text += state.flush()
    return Outcome(text, state.stop_index, state.consumed, state.released)


def without_begun_character(token_ids: Sequence[int], vocabulary: Vocabulary) -> list[int]:
    """The ids less those of a character that lacks its end, where the ids may yet go on."""
    visible = [i for i in token_ids if i not in vocabulary.silent_ids]
    run_length = next(
        (n for n, i in enumerate(reversed(visible)) if i not in vocabulary.byte_ids), len(visible)
    )
    raw = b"".join(vocabulary.token_bytes[i] for i in visible[len(visible) - run_length :])
    try:
        raw.decode()
    except UnicodeDecodeError as error:
        if error.reason == "unexpected end of data":
            return visible[: len(visible) - len(raw) + error.start]
    return visible


def expected_stop(
    family: str, token_ids: Sequence[int], stops: Sequence[str]
) -> tuple[str, int | None, int]:
    """Text, stop and consumed tokens by the definition: the library's text after every token."""
    oracle, vocabulary = ORACLES[family], VOCABULARIES[family]
    for count in range(1, len(token_ids) + 2):
        seen = list(token_ids[:count])
        text = oracle.decode(
            seen if count > len(token_ids) else without_begun_character(seen, vocabulary)
        )
        hits = [(text.find(stop), index) for index, stop in enumerate(stops) if stop in text]
        if hits:
            place, index = min(hits)
            return text[:place], index, min(count, len(token_ids))
    return oracle.decode(list(token_ids)), None, len(token_ids)


@settings(max_examples=500)
@given(CASES, STOPS, CUTS)
def test_any_frame_borders_give_the_librarys_text(
    case: tuple[str, list[int]], stops: list[str], cuts: list[int]
) -> None:
    """Text, stop and consumed tokens are those of the whole decoding, however ids are framed."""
    family, token_ids = case
    vocabulary = VOCABULARIES[family]
    shared = DecodingRules(vocabulary, stops)
    state = detokenizer_class(vocabulary)

    first = run(state(shared), token_ids, cuts, "")
    again = run(state(shared), token_ids, (), "")  # now with what the rules remember

    assert (first.text, first.stop_index, first.consumed) == expected_stop(family, token_ids, stops)
    assert again == first
    assert first.stop_index is not None or first.released == len(token_ids)


@settings(max_examples=500)
@given(CASES, STOPS, st.integers(0, 16), st.integers(0, 16), CUTS)
def test_a_replica_goes_on_where_another_stopped(
    case: tuple[str, list[int]], stops: list[str], acknowledged: int, known: int, cuts: list[int]
) -> None:
    """Re-opened at any acknowledgement, with any ids known, the text has no gap or repetition."""
    family, token_ids = case
    vocabulary = VOCABULARIES[family]
    shared = DecodingRules(vocabulary, stops)
    state = detokenizer_class(vocabulary)
    acknowledged = min(acknowledged, len(token_ids))
    known = min(max(known, acknowledged), len(token_ids))
    whole = run(state(shared), token_ids, (), "")
    first = state(shared)
    sent = first.feed(token_ids[:acknowledged])

    second, delta = state.resumed(shared, token_ids[:known], first.released)

    assert run(second, token_ids[known:], cuts, sent + delta) == whole


@settings(max_examples=300)
@given(CASES)
def test_what_is_out_is_never_wrong(case: tuple[str, list[int]]) -> None:
    """Whatever comes later, released text is the beginning of the library's text."""
    family, token_ids = case
    state, text = new(family), ""

    for token_id in token_ids:
        text += state.feed([token_id])
        assert ORACLES[family].decode(token_ids).startswith(text)
    assert text + state.flush() == ORACLES[family].decode(token_ids)


def test_bytes_of_a_whole_run_wait_for_its_end() -> None:
    """A character made of bytes goes out with the token behind the run."""
    state = new("metaspace")

    assert state.feed(ids("a", FACE)) == "a"
    assert (state.consumed, state.released) == (5, 1)
    assert state.feed(ids("e")) == "😀e"
    assert state.released == 6


def test_one_bad_byte_turns_the_run_into_replacements() -> None:
    """All bytes of the run count, and each further one goes out at once."""
    state = new("metaspace")

    assert state.feed(ids("é".encode())) == ""
    assert state.feed(ids(b"\xff")) == "\ufffd" * 3
    assert state.feed(ids(b"A")) == "\ufffd"
    assert state.feed(ids("a", b"A", "e")) == "aAe"
    assert state.released == state.consumed == 7


def test_a_space_in_front_that_may_yet_be_a_replacement_is_not_released() -> None:
    """A byte that the text would lose is settled with its run like every other."""
    state = new("metaspace")

    assert state.feed(ids(b" ", END)) == ""
    assert state.released == 0
    assert state.feed(ids(b"\xff")) == "\ufffd\ufffd"
    assert state.released == state.consumed == 3


def test_half_a_surrogate_breaks_a_run_at_once() -> None:
    """No character begins with it, so nothing waits for its third byte."""
    state = new("metaspace", "\ufffd")

    assert state.feed(ids(b"\xed\xa5\xf0")) == ""
    assert (state.stop_index, state.consumed) == (0, 2)


def test_special_tokens_do_not_end_a_run() -> None:
    """They are silent: a character may go on behind one."""
    state = new("metaspace")

    assert state.feed(ids(FACE[:2], END, FACE[2:], "a")) == "😀a"
    assert state.released == 6


def test_a_run_may_complete_a_stop_string_and_lose_it() -> None:
    """A stop string is found in the run as it stands; bytes behind it no longer count."""
    state = new("metaspace", "日")

    assert state.feed(ids("a", "é日".encode(), b"\xff")) == "aé"
    assert (state.stop_index, state.consumed, state.released) == (0, 6, 3)


def test_the_beginning_of_a_stop_string_waits_for_a_run() -> None:
    """Text in front of a run is held while the run may become part of a stop string."""
    state = new("metaspace", "a\ufffd")

    assert state.feed(ids("e", "a", "é".encode())) == "e"
    assert state.feed(ids(b"\xff")) == ""
    assert (state.stop_index, state.consumed, state.released) == (0, 5, 1)


def test_flush_ends_a_run() -> None:
    """At the end a whole run is text, and one that lacks bytes is replacements."""
    whole, cut = new("metaspace"), new("metaspace")
    whole.feed(ids("é日".encode()))
    cut.feed(ids("é".encode(), FACE[:2]))

    assert whole.flush() == "é日"
    assert cut.flush() == "\ufffd" * 4


def test_a_number_that_was_never_acknowledged_is_refused() -> None:
    """A re-open cannot begin inside a run."""
    vocabulary = VOCABULARIES["metaspace"]

    with pytest.raises(ServiceError, match=r"released_tokens is 3, .* release 5") as caught:
        FallbackDetokenizer.resumed(DecodingRules(vocabulary), ids(FACE, "a"), 3)

    assert caught.value.param == "released_tokens"


def test_an_id_outside_the_vocabulary_is_refused() -> None:
    """The error names the id, in the middle of a run too."""
    state = new("metaspace")

    with pytest.raises(ServiceError, match="99999 is outside"):
        state.feed([*ids(FACE[:1]), 99_999])


@pytest.mark.parametrize("family", DOCUMENTS)
def test_long_texts_agree_with_the_library(family: str) -> None:
    """Thousands of random tokens make the library's text."""
    vocabulary = VOCABULARIES[family]
    choices = range(len(vocabulary.token_bytes))
    token_ids = random.Random(7).choices(choices, k=5_000)
    state = new(family, "a stop string that never comes")

    text = "".join(state.feed(token_ids[at : at + 3]) for at in range(0, 5_000, 3)) + state.flush()

    assert text == ORACLES[family].decode(token_ids)


@pytest.mark.parametrize("family", DOCUMENTS)
def test_encoded_texts_come_back(family: str) -> None:
    """What was encoded is decoded token by token."""
    text = "Hello, world! The wheel turns."
    token_ids = ORACLES[family].encode(text, add_special_tokens=False).ids
    state = new(family)

    assert "".join(state.feed([i]) for i in token_ids) + state.flush() == text


@pytest.mark.parametrize("raw", [b"\x80", b"a", FACE, FACE[:1]])
def test_cost_is_linear_in_endless_runs(raw: bytes) -> None:
    """Bytes that make no character, and bytes that make nothing else, cost the same each."""
    token_ids = (ids(raw) * 40_000)[:40_000]

    def seconds(count: int) -> float:
        state = new("metaspace", "a stop", "\ufffdb")
        begin = process_time()
        for token_id in token_ids[:count]:
            state.feed((token_id,))
        return process_time() - begin

    short, long = (min(seconds(count) for _ in range(3)) for count in (4_000, 40_000))

    assert long < 30 * short


def test_families_without_runs_keep_the_plain_machine(document: dict[str, Any]) -> None:
    """ByteLevel pays nothing for the rules of the other family."""
    assert detokenizer_class(vocabulary_from_document(document)) is Detokenizer

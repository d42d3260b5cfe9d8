"""The state machine of one output: characters, stop strings, whole tokens, re-opening."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from time import process_time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.rpc.errors import ServiceError
from tokenizer_svc.detokenizer import DecodingRules, Detokenizer
from tokenizer_svc.vocabulary import Vocabulary

FACE = "😀".encode()
# Whole words, single bytes that make or break characters, letters that make up stop strings.
TOKENS = (
    *(b"a", b"b", b"ab", b"ba", b"aab", b" ", b" a", b"hello", b"", b"\n", b"END", b"E", b"ND"),
    *("日".encode(), "日".encode()[:1], "日".encode()[1:], "日".encode()[1:] + b"a", "é".encode()),
    *(FACE, FACE[:1], FACE[1:2], FACE[2:3], FACE[3:], FACE[1:], FACE[:2], FACE[2:] + FACE[:3]),
    *(
        b"\x80",
        b"\xff",
        b"\xe0\x80",
        b"\xed\xa0\x80",
        b"\xed",
        b"\xed\xa0",
        b"\xf4\x90",
        b"\xc2",
        b"\xef\xbf\xbd",
    ),
)
SPECIAL = len(TOKENS)
STOP_ID = TOKENS.index(b"hello")


def vocabulary_of(tokens: Sequence[bytes], *, strips_leading_space: bool = False) -> Vocabulary:
    return Vocabulary(
        (*tokens, b""),
        silent_ids=frozenset({len(tokens)}),
        strips_leading_space=strips_leading_space,
    )


VOCABULARY = vocabulary_of(TOKENS)
STRIPPING = vocabulary_of(TOKENS, strips_leading_space=True)
IDS = {raw: token_id for token_id, raw in enumerate(TOKENS)}


def rules(*stops: str, stop_token_ids: Sequence[int] = ()) -> DecodingRules:
    return DecodingRules(VOCABULARY, stops, stop_token_ids)


def ids(*tokens: bytes) -> list[int]:
    return [IDS[token] for token in tokens]


@dataclass
class Outcome:
    """What a peer sees of an output, however it was fed."""

    text: str
    stop_index: int | None
    consumed: int
    released: int


def run(state: Detokenizer, token_ids: Sequence[int], cuts: Sequence[int], text: str) -> Outcome:
    """Feed in frames that end at `cuts`, then flush."""
    borders = [0, *sorted(min(cut, len(token_ids)) for cut in cuts), len(token_ids)]
    for start, end in pairwise(borders):
        text += state.feed(token_ids[start:end])
    text += state.flush()
    return Outcome(text, state.stop_index, state.consumed, state.released)


def expected_outcome(
    token_ids: Sequence[int], stops: Sequence[str], stop_token_ids: Sequence[int]
) -> Outcome:
    """The definition, written down the slow way: decode the whole after every token."""
    raw = [b"" if i in (*stop_token_ids, SPECIAL) else TOKENS[i] for i in token_ids]
    ends: list[int] = []
    for count in range(1, len(raw) + 2):
        at_end = count > len(raw)
        joined = b"".join(raw[:count])
        text = joined.decode("utf-8", "replace")
        cut_off = next((n for n in (1, 2, 3) if is_cut_off(joined[-n:])), 0)
        if cut_off and not at_end:
            text = joined[:-cut_off].decode("utf-8", "replace")
        ends += [] if at_end else [len(text) + bool(cut_off)]
        hits = [(text.find(stop), index) for index, stop in enumerate(stops) if stop in text]
        if hits:
            place, index = min(hits)
            begun = [end for start, end in zip([0, *ends], ends, strict=False) if start < place]
            out = max(len(begun), sum(end <= place for end in ends))
            return Outcome(text[:place], index, min(count, len(raw)), out)
    return Outcome(text, None, len(raw), len(raw))


def is_cut_off(tail: bytes) -> bool:
    """Whether these bytes begin a character and lack its end."""
    try:
        tail.decode()
    except UnicodeDecodeError as error:
        return error.reason == "unexpected end of data" and error.start == 0
    return False


token_lists = st.lists(st.integers(0, SPECIAL), max_size=24)
stop_texts = st.lists(
    st.sampled_from(
        ["a", "ab", "ba", "aba", "aabb", "END", "ND", "日", "日a", "a日", "\ufffd", "\ufffda", " a"]
    ),
    max_size=4,
)
stop_ids = st.sampled_from([(), (STOP_ID,)])
cut_lists = st.lists(st.integers(0, 24), max_size=6)


@settings(max_examples=400)
@given(token_lists, stop_texts, stop_ids, cut_lists)
def test_any_frame_borders_give_the_defined_outcome(
    token_ids: list[int], stops: list[str], stop_token_ids: tuple[int, ...], cuts: list[int]
) -> None:
    """Text, stop and acknowledgement are those of the definition, however ids are framed."""
    shared = rules(*stops, stop_token_ids=stop_token_ids)
    expected = expected_outcome(token_ids, stops, stop_token_ids)

    first = run(Detokenizer(shared), token_ids, cuts, "")
    again = run(Detokenizer(shared), token_ids, (), "")  # now with what the rules remember

    assert first == expected
    assert again == expected


@settings(max_examples=400)
@given(
    st.sampled_from([VOCABULARY, STRIPPING]),
    token_lists,
    stop_texts,
    st.integers(0, 24),
    st.integers(0, 24),
    cut_lists,
)
def test_a_replica_goes_on_where_another_stopped(
    vocabulary: Vocabulary,
    token_ids: list[int],
    stops: list[str],
    acknowledged: int,
    known: int,
    cuts: list[int],
) -> None:
    """Re-opened at any acknowledgement, with any ids known, the text has no gap or repetition."""
    shared = DecodingRules(vocabulary, stops)
    acknowledged = min(acknowledged, len(token_ids))
    known = min(max(known, acknowledged), len(token_ids))
    whole = run(Detokenizer(shared), token_ids, (), "")
    first = Detokenizer(shared)
    sent = first.feed(token_ids[:acknowledged])

    second, delta = Detokenizer.resumed(shared, token_ids[:known], first.released)
    outcome = run(second, token_ids[known:], cuts, sent + delta)

    assert outcome == whole


@settings(max_examples=200)
@given(token_lists, stop_texts)
def test_acknowledged_tokens_are_those_whose_text_is_out(
    token_ids: list[int], stops: list[str]
) -> None:
    """Released text always ends where the last released token ends, until a stop or the flush."""
    state = Detokenizer(rules(*stops))
    text = ""
    for count, token_id in enumerate(token_ids, 1):
        text += state.feed([token_id])
        if state.stop_index is not None:
            return
        raw = b"".join(TOKENS[i] if i < SPECIAL else b"" for i in token_ids[: state.released])
        whole = raw.decode("utf-8", "replace")
        ends_inside = any(is_cut_off(raw[-n:]) for n in (1, 2, 3))

        assert state.consumed == count
        assert len(text) == len(whole)
        assert ends_inside or text == whole


@given(st.lists(st.binary(max_size=6), max_size=12))
def test_text_is_the_whole_decoding(pieces: list[bytes]) -> None:
    """Bytes in any pieces decode as in one piece; a token and a begun character may wait."""
    state = Detokenizer(DecodingRules(vocabulary_of(pieces)))
    raw = b"".join(pieces)

    text = state.feed(range(len(pieces)))
    waiting = len(raw.decode("utf-8", "replace")) - len(text)
    text += state.flush()

    assert text == raw.decode("utf-8", "replace")
    assert waiting <= 6 + 3


def test_a_stop_string_is_found_across_tokens() -> None:
    """A stop string may begin and end inside tokens; the text before it goes out."""
    state = Detokenizer(rules("bEND"))

    assert state.feed(ids(b"hello", b"ab")) == "hello"
    assert (state.consumed, state.released) == (2, 1)
    assert state.feed(ids(b"E", b"ND", b"hello")) == "a"
    assert (state.stop_index, state.consumed, state.released) == (0, 4, 2)


def test_a_false_beginning_is_released() -> None:
    """What looked like a stop string goes out with the token that shows it is none."""
    state = Detokenizer(rules("END"))

    assert state.feed(ids(b"a", b"E")) == "a"
    assert state.feed(ids(b"hello")) == "Ehello"
    assert (state.consumed, state.released) == (3, 3)


def test_the_earliest_stop_wins_and_ties_go_to_the_first_given() -> None:
    """Of several stop strings in one token the one that begins first counts."""
    later = Detokenizer(rules("ND", "EN", "END"))

    assert later.feed(ids(b"END")) == ""
    assert later.stop_index == 1


def test_flush_may_hit_a_stop() -> None:
    """The replacement character that ends a cut-off character can complete a stop string."""
    state = Detokenizer(rules("a\ufffd"))

    assert state.feed(ids(b"hello", b"a", FACE[:2])) == "hello"
    assert state.flush() == ""
    assert (state.stop_index, state.consumed, state.released) == (0, 3, 1)


def test_feeds_after_a_stop_are_ignored() -> None:
    """Nothing is consumed or released behind a stop hit, and the flush is empty."""
    state = Detokenizer(rules("a"))
    state.feed(ids(b"a"))

    assert state.feed(ids(b"hello", b"b")) == ""
    assert state.flush() == ""
    assert (state.consumed, state.released) == (1, 0)


def test_a_token_inside_a_character_is_released_with_it() -> None:
    """Half a character waits; both halves count once it is whole."""
    state = Detokenizer(rules())

    assert state.feed([IDS[FACE[:2]]]) == ""
    assert state.released == 0
    assert state.feed([IDS[FACE[2:3]], SPECIAL]) == ""
    assert state.feed([IDS[FACE[3:]]]) == "😀"
    assert state.released == 4


def test_special_tokens_and_stop_token_ids_are_no_text() -> None:
    """Neither has text, and both are consumed and released."""
    state = Detokenizer(rules(stop_token_ids=[STOP_ID]))

    assert state.feed([IDS[b"a"], SPECIAL, STOP_ID]) == "a"
    assert (state.consumed, state.released) == (3, 3)


def test_one_leading_space_is_stripped_where_the_model_writes_one() -> None:
    """The space goes once, also when other tokens without text come first."""
    vocabulary = vocabulary_of((b" ", b" a"), strips_leading_space=True)
    state = Detokenizer(DecodingRules(vocabulary))

    assert state.feed([2, 1, 1, 0]) == "a a "


def test_an_id_outside_the_vocabulary_is_refused() -> None:
    """The error names the id and the bound."""
    state = Detokenizer(rules())

    with pytest.raises(ServiceError, match=rf"{SPECIAL + 1} is outside .* of {SPECIAL + 1} ids"):
        state.feed([SPECIAL + 1])


def test_more_released_than_releasable_is_refused() -> None:
    """A re-open cannot claim text that the given ids do not make."""
    with pytest.raises(ServiceError, match="released_tokens is 2, above the 1"):
        Detokenizer.resumed(rules("END"), ids(b"a", b"E"), 2)


@pytest.mark.parametrize("token", [b"\x80", FACE[:1], b"a"])
def test_cost_is_linear_where_nothing_is_ever_settled(token: bytes) -> None:
    """Bytes that make no character and endless beginnings of a stop string cost the same."""
    token_ids = ids(token) * 40_000
    shared = rules("a" * 400 + "b", "c")

    def seconds(count: int) -> float:
        state = Detokenizer(shared)
        begin = process_time()
        for token_id in token_ids[:count]:
            state.feed((token_id,))
        return process_time() - begin

    short, long = (min(seconds(count) for _ in range(3)) for count in (4_000, 40_000))

    assert long < 30 * short


def test_random_long_outputs_agree_with_the_whole_decoding() -> None:
    """Thousands of tokens of random kinds make the text that decoding them at once makes."""
    token_ids = random.Random(7).choices(range(SPECIAL), k=5_000)
    state = Detokenizer(rules("a stop string that never comes"))

    text = "".join(state.feed(token_ids[at : at + 3]) for at in range(0, 5_000, 3)) + state.flush()

    assert text == VOCABULARY.decode(token_ids)

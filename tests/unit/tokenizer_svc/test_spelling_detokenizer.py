"""Which bytes of the text each token spells: the text's own, whatever is drawn and however fed."""

from collections.abc import Sequence
from itertools import pairwise
from time import process_time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.rpc.errors import ServiceError
from headrace.rpc.frame_stream import FrameViolationError
from headrace.rpc.limits import MAX_MESSAGE_BYTES
from tests.support.tokenizer_models import (
    train_metaspace_tokenizer,
    train_tokenizer,
    train_unigram_tokenizer,
)
from tokenizer_svc.detokenize_outbox import DetokenizeOutbox
from tokenizer_svc.detokenizer import DecodingRules
from tokenizer_svc.fallback_detokenizer import detokenizer_class
from tokenizer_svc.outputs import Answers
from tokenizer_svc.spelling_detokenizer import (
    MAX_HELD,
    SpelledToken,
    SpellingDetokenizer,
    split_alternatives,
)
from tokenizer_svc.vocabulary import Vocabulary, vocabulary_from_document

FACE = "😀".encode()
BROKEN = (
    *(b"a", b"b", b"ab", b" ", b" a", b"", b"END", b"E", b"ND", "日".encode(), "日".encode()[:1]),
    *("日".encode()[1:], "日".encode()[1:] + b"a", FACE[:1], FACE[1:2], FACE[2:3], FACE[3:]),
    *(
        FACE[1:] + FACE[:1],
        FACE[2:] + FACE[:3],
        b"\xff",
        b"\xe0\x80",
        b"\xed\xa0\x80",
        b"\xed\xa0",
        b"\xc2",
    ),
)
SPECIAL = len(BROKEN)


def broken_vocabulary(*, strips_leading_space: bool = False) -> Vocabulary:
    """Tokens that break characters wherever they can."""
    return Vocabulary(
        (*BROKEN, b""),
        silent_ids=frozenset({SPECIAL}),
        special_bytes={SPECIAL: b"<end>"},
        strips_leading_space=strips_leading_space,
    )


VOCABULARIES = {
    "broken": broken_vocabulary(),
    "stripping": broken_vocabulary(strips_leading_space=True),
    "bytelevel": vocabulary_from_document(train_tokenizer(), 430),
    "metaspace": vocabulary_from_document(train_metaspace_tokenizer(), 470),
    "unigram": vocabulary_from_document(train_unigram_tokenizer()),
}
STOPS = st.lists(
    st.sampled_from(["a", "ab", "END", "日", "e", "th", " t", "\ufffd", "\ufffda"]), max_size=3
)
CUTS = st.lists(st.integers(0, 20), max_size=4)


@st.composite
def cases(draw: st.DrawFn) -> tuple[str, list[int]]:
    """A family, and ids of it: any, or those of single bytes and the like at the end."""
    family = draw(st.sampled_from(sorted(VOCABULARIES)))
    size = len(VOCABULARIES[family].token_bytes)
    lowest = draw(st.sampled_from([0, max(0, size - 264)]))
    return family, draw(st.lists(st.integers(lowest, size - 1), max_size=20))


def rules(family: str, stops: Sequence[str] = (), ends: Sequence[int] = ()) -> DecodingRules:
    return DecodingRules(VOCABULARIES[family], stops, ends)


def ids(*tokens: bytes) -> list[int]:
    return [BROKEN.index(token) for token in tokens]


def taken(state: SpellingDetokenizer) -> list[SpelledToken]:
    spelled, state.spelled = state.spelled, []
    return spelled


def joined(tokens: Sequence[SpelledToken]) -> bytes:
    return b"".join(token.spelled for token in tokens)


@settings(max_examples=500)
@given(cases(), STOPS, CUTS)
def test_the_tokens_spell_what_every_delta_says(
    case: tuple[str, list[int]], stops: list[str], cuts: list[int]
) -> None:
    """Delta by delta, token for token alike in every framing; the text is the plain one's."""
    family, token_ids = case
    shared = rules(family, stops, token_ids[3:4])
    plain = detokenizer_class(shared.vocabulary)(shared)
    text = plain.feed(token_ids) + plain.flush()
    outcomes = []
    for some in (cuts, range(len(token_ids))):
        state, said, spelled = SpellingDetokenizer(shared), "", []
        borders = [0, *sorted(min(cut, len(token_ids)) for cut in some), len(token_ids)]
        for frame in [*(token_ids[start:end] for start, end in pairwise(borders)), None]:
            said += state.flush() if frame is None else state.feed(frame)
            spelled += taken(state)
            assert joined(spelled).decode() == said
        assert (said, state.stop_index, state.consumed) == (text, plain.stop_index, plain.consumed)
        outcomes.append(spelled)

    assert outcomes[0] == outcomes[1]
    assert plain.stop_index is not None or len(outcomes[0]) == len(token_ids)


@settings(max_examples=300)
@given(cases(), STOPS, st.integers(0, 20), st.integers(0, 20))
def test_a_replica_goes_on_where_another_stopped(
    case: tuple[str, list[int]], stops: list[str], acknowledged: int, known: int
) -> None:
    """Re-opened at any acknowledgement, no token is spelled twice or not at all."""
    family, token_ids = case
    shared = rules(family, stops)
    known = min(max(known, acknowledged), len(token_ids))
    alternatives = [[token_id] for token_id in token_ids]
    whole, first = SpellingDetokenizer(shared), SpellingDetokenizer(shared)
    whole.offer(alternatives)
    text = whole.feed(token_ids) + whole.flush()
    first.offer(alternatives[:acknowledged])
    sent = first.feed(token_ids[:acknowledged])

    second, delta = SpellingDetokenizer.resumed(
        shared, token_ids[:known], first.released, alternatives[first.released : known]
    )
    second.offer(alternatives[known:])
    rest = second.feed(token_ids[known:]) + second.flush()

    assert sent + delta + rest == text
    assert taken(first) + taken(second) == taken(whole)


def test_a_token_waits_for_the_rest_of_its_second_character() -> None:
    """A whole character is not enough where the token also begins another one."""
    state = SpellingDetokenizer(rules("broken"))

    assert state.feed(ids(FACE[:1], FACE[1:] + FACE[:1])) == ""
    assert state.released == 0
    assert state.feed(ids(FACE[1:2], FACE[2:3], FACE[3:])) == "😀😀"
    assert [len(token.spelled) for token in taken(state)] == [1, 4, 1, 1, 1]
    assert state.released == 5


def test_a_token_with_half_a_character_before_a_stop_string_keeps_it() -> None:
    """The cut is made in the text, so no character is halved."""
    state = SpellingDetokenizer(rules("broken", ["a"]))

    assert state.feed(ids(b"b", "日".encode()[:1], "日".encode()[1:] + b"a", b"b")) == "b日"
    assert [token.spelled for token in taken(state)] == [
        b"b",
        "日".encode()[:1],
        "日".encode()[1:],
    ]
    assert state.stop_index == 0


def test_three_bytes_share_one_replacement() -> None:
    """Each token that made it has one of its bytes."""
    state = SpellingDetokenizer(rules("broken"))

    assert state.feed(ids(FACE[:1], FACE[1:2], FACE[2:3], b"a")) == "\ufffda"
    assert [token.spelled for token in taken(state)] == [b"\xef", b"\xbf", b"\xbd", b"a"]


def test_alternatives_say_what_they_would_say_there() -> None:
    """In front of a text without its space too, special tokens by name, in the order given."""
    state = SpellingDetokenizer(rules("stripping"))
    space, letter = ids(b" a", b"a")

    state.offer([[space, SPECIAL], [space], []])
    state.feed([letter, letter, letter])
    state.check_offers()

    assert [token.alternatives for token in taken(state)] == [[b"a", b"<end>"], [b" a"], []]


def test_ids_that_no_token_has_are_refused() -> None:
    """Drawn or not, an id outside the vocabulary fails the output."""
    for alternatives, drawn in (([[99]], 0), ([], 99)):
        state = SpellingDetokenizer(rules("broken"))
        state.offer(alternatives)
        with pytest.raises(ServiceError, match="Token id 99"):
            state.feed([drawn])


def test_what_waits_is_bounded() -> None:
    """A run that is never decided fails its output by name; what was released does not count."""
    [byte] = [i for i in VOCABULARIES["metaspace"].byte_ids if _raw(i) == b"a"]
    word = next(i for i in range(50, 99) if i not in VOCABULARIES["metaspace"].byte_ids)
    state = SpellingDetokenizer(rules("metaspace"))

    def feed(token_id: int, count: int) -> None:
        state.offer([[word] * 9] * count)
        state.feed([token_id] * count)

    feed(word, MAX_HELD)
    feed(byte, MAX_HELD // 10)
    assert state.released == MAX_HELD
    with pytest.raises(ServiceError, match=f"More than {MAX_HELD} tokens") as caught:
        feed(byte, 1)
    assert caught.value.param == "logprobs"


def test_characters_that_never_end_where_tokens_do_cost_no_more_each() -> None:
    """Tokens that all end within a character are held, bounded in number and in time."""
    state = SpellingDetokenizer(rules("broken"))
    state.feed(ids(FACE[:1]))
    middle = ids(FACE[1:] + FACE[:1])

    begun = process_time()
    assert state.feed(middle * (MAX_HELD - 2)) == ""
    assert process_time() - begun < 5
    assert state.released == 0
    assert state.flush() == "😀" * (MAX_HELD - 2) + "\ufffd"
    assert joined(taken(state)).decode() == "😀" * (MAX_HELD - 2) + "\ufffd"


def _raw(token_id: int) -> bytes:
    return VOCABULARIES["metaspace"].token_bytes[token_id]


def test_long_answers_come_in_several_entries() -> None:
    """However much is released at once, no entry grows without bound; all of it arrives."""
    tokens = [SpelledToken(b"ab", [b"x" * 400] * 20)] * 3000
    answers = Answers(spelled=[(7, tokens)])
    outbox = DetokenizeOutbox()

    outbox.add(answers, 0)
    entries = []
    while not outbox.is_empty:
        entries += outbox.take().token_bytes

    assert sum(len(entry.lengths) for entry in entries) == 3000
    assert b"".join(entry.spelled for entry in entries) == b"ab" * 3000
    assert max(entry.ByteSize() for entry in entries) < MAX_MESSAGE_BYTES // 2


def test_offers_that_no_token_takes_are_a_bug_but_behind_a_stop() -> None:
    """More alternatives than tokens contradict; where the output has ended, none are taken."""
    state, stopped = SpellingDetokenizer(rules("broken")), SpellingDetokenizer(rules("broken", "a"))
    for each in (state, stopped):
        each.offer([[1], [2]])
        each.feed(ids(b"a"))

    stopped.check_offers()
    with pytest.raises(FrameViolationError, match="1 tokens too many"):
        state.check_offers()
    with pytest.raises(FrameViolationError, match="add up to 3"):
        split_alternatives([1, 2], [5])

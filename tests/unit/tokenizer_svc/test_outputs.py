"""Frames of arrays against the states that they feed."""

import pytest

from headrace.common.v1 import errors_pb2
from headrace.rpc.errors import ServiceError
from headrace.rpc.frame_stream import FrameViolationError
from tokenizer_svc.detokenizer import DecodingRules
from tokenizer_svc.outputs import Answers, OutputTable
from tokenizer_svc.rules_cache import RulesCache
from tokenizer_svc.vocabulary import Vocabulary

TOKENS = ["a", "b", "E", "ND", "word "]
VOCABULARY = Vocabulary([token.encode() for token in TOKENS])
A, B, E, ND, WORD = range(5)


def table(*handles: int, stops: tuple[str, ...] = ("END",)) -> OutputTable:
    outputs = OutputTable()
    rules = DecodingRules(VOCABULARY, stops)
    for handle in handles:
        outputs.claim(handle)
        outputs.open(handle, rules, (), 0, Answers())
    return outputs


def rows(answers: Answers) -> list[tuple[int, int, int, str]]:
    return list(
        zip(
            answers.handles,
            answers.consumed_tokens,
            answers.released_tokens,
            answers.deltas,
            strict=True,
        )
    )


def feed(outputs: OutputTable, handles: list[int], counts: list[int], ids: list[int]) -> Answers:
    answers = Answers()
    outputs.feed(handles, counts, ids, answers)
    return answers


def test_one_token_for_each_output_answers_each() -> None:
    """Every fed output has an entry, with and without text, known or new to the rules."""
    outputs = table(1, 2)

    for consumed in (1, 2):
        answers = feed(outputs, [1, 2], [1, 1], [A, WORD])
        assert rows(answers) == [(1, consumed, consumed, "a"), (2, consumed, consumed, "word ")]
    assert rows(feed(outputs, [2, 1], [1, 1], [E, B])) == [(2, 3, 2, ""), (1, 3, 3, "b")]


def test_several_tokens_are_joined() -> None:
    """An entry of several tokens has one delta; an output may occur twice in a frame."""
    answers = feed(table(1, 2), [1, 2, 1], [2, 0, 3], [A, B, A, E, E])

    assert rows(answers) == [(1, 2, 2, "ab"), (2, 0, 0, ""), (1, 5, 4, "aE")]


def test_a_stop_hit_is_said_once() -> None:
    """The entry ends before the stop string, the hit names it, and later feeds have no answer."""
    outputs = table(7, stops=("b", "END"))

    answers = feed(outputs, [7], [4], [A, E, ND, A])
    later = feed(outputs, [7], [1], [A])
    closed = Answers()
    outputs.close(7, closed)

    assert rows(answers) == [(7, 3, 1, "a")]
    assert answers.stop_hits == [(7, 1, 3)]
    assert later == Answers()
    assert closed == Answers(closed_handles=[7])
    assert outputs.stray_entries == 0


def test_close_flushes_and_confirms() -> None:
    """Held-back text comes with the confirmation."""
    outputs = table(1)
    feed(outputs, [1], [2], [A, E])
    answers = Answers()

    outputs.close(1, answers)

    assert rows(answers) == [(1, 2, 2, "E")]
    assert answers.closed_handles == [1]
    assert len(outputs) == 0


def test_abandon_drops_without_an_answer() -> None:
    """The handle is unknown from then on."""
    outputs = table(1)

    outputs.abandon(1)

    assert feed(outputs, [1], [1], [A]) == Answers()
    assert outputs.stray_entries == 1


def test_unknown_handles_are_ignored_and_counted() -> None:
    """Feeds, closes and abandons of what is not open change nothing else."""
    outputs = table(1)

    answers = feed(outputs, [9, 1], [1, 1], [A, A])
    feed(outputs, [9, 1], [2, 1], [A, A, A])
    outputs.close(9, answers)
    outputs.abandon(9)

    assert rows(answers) == [(1, 1, 1, "a")]
    assert outputs.stray_entries == 4


def test_resuming_answers_at_once() -> None:
    """Prior ids are acknowledged with the text behind the released ones."""
    outputs = OutputTable()
    answers = Answers()

    outputs.open(3, DecodingRules(VOCABULARY, ("END",)), [A, B, WORD, E], 1, answers)

    assert rows(answers) == [(3, 4, 3, "bword ")]


def test_an_unknown_id_fails_its_output_only() -> None:
    """The failure names the id; the other outputs of the frame go on."""
    outputs = table(1, 2)

    answers = feed(outputs, [1, 2], [1, 1], [99, A])

    assert rows(answers) == [(2, 1, 1, "a")]
    [(handle, error)] = answers.failures
    assert handle == 1
    assert "99" in error.message
    assert len(outputs) == 1


def test_failing_an_output_drops_it() -> None:
    """It is said once; what is unknown is a stray."""
    outputs = table(1)
    answers = Answers()
    error = ServiceError(errors_pb2.ERROR_REASON_OVERLOADED, "full")

    outputs.fail(1, error, answers)
    outputs.fail(1, error, answers)

    assert answers.failures == [(1, error)]
    assert outputs.stray_entries == 1


@pytest.mark.parametrize(
    ("handles", "counts", "ids"),
    [([1], [], [A]), ([1], [2], [A]), ([], [1], [A]), ([1], [1, 1], [A, A]), ([], [], [A])],
)
def test_arrays_that_contradict_each_other_end_the_stream(
    handles: list[int], counts: list[int], ids: list[int]
) -> None:
    """Lengths that do not fit are a bug of the peer."""
    with pytest.raises(FrameViolationError, match=r"edge sent \d handles"):
        feed(table(1), handles, counts, ids)


def test_handles_must_increase() -> None:
    """A handle that was used before is a bug of the peer."""
    outputs = table(5)

    with pytest.raises(FrameViolationError, match="opened handle 5 after handle 5"):
        outputs.claim(5)


def test_rules_are_shared_and_the_oldest_dropped() -> None:
    """Equal stops share rules until too many others were used since."""
    cache = RulesCache(2)
    first = cache.get("m", VOCABULARY, ("x",), (1,))

    cache.get("m", VOCABULARY, ("y",), (1,))
    assert cache.get("m", VOCABULARY, ("x",), (1,)) is first
    assert cache.get("n", VOCABULARY, ("x",), (1,)) is not first
    cache.get("m", VOCABULARY, ("z",), (1,))
    assert cache.get("m", VOCABULARY, ("x",), (1,)) is not first

"""bench.reuse: what a prefix cache can give at best, and how hits are counted against it."""

import pytest

from bench.reuse.conversations import user_texts
from bench.reuse.load import Turn
from bench.reuse.prefixes import KnownPrefixes, computed_tokens
from bench.reuse.report import Round, hit_rate, misses, row, rows, table

BLOCK = 4


def _known(*sequences: range) -> KnownPrefixes:
    known = KnownPrefixes("tiny", BLOCK)
    for sequence in sequences:
        known.add(sequence)
    return known


@pytest.mark.parametrize(
    ("computed", "prompt", "cached"),
    [
        (range(12), [*range(12), 99], 12),  # all of it
        (range(11), [*range(11), 99], 8),  # the third block was never full
        (range(12), range(12), 8),  # the last token is computed in any case
        (range(12), [*range(6), 99, *range(7, 12)], 4),  # differs in the second block
        (range(12), [99, *range(1, 12)], 0),  # the rest behind another beginning is another rest
        (range(12), range(4), 0),
        (range(12), range(5), 4),
    ],
)
def test_only_full_blocks_of_one_beginning_are_possible(
    computed: range, prompt: list[int], cached: int
) -> None:
    """The longest known beginning in full blocks, at most all but one token."""
    assert _known(computed).cached_at_best(prompt) == cached


def test_the_best_of_all_requests_counts() -> None:
    """A prompt may begin like any of the requests before it, the longest match wins."""
    known = _known(range(4), range(100, 116), range(8))

    assert known.cached_at_best(range(9)) == 8
    assert known.cached_at_best(range(100, 117)) == 16


@pytest.mark.parametrize(
    ("completion_tokens", "expected"),
    [
        (3, [1, 2, 7, 8]),  # cut by its length: 9 was drawn, and not fed
        (4, [1, 2, 7, 8, 9]),  # ended by an end token, which was not fed
        (1, [1, 2]),
    ],
)
def test_the_last_token_is_never_computed(completion_tokens: int, expected: list[int]) -> None:
    """A request leaves its prompt and its answer without the token that was drawn last."""
    assert computed_tokens([1, 2], [7, 8, 9], completion_tokens) == expected


def _turn(cached: int, possible: int, *, turn: int = 0, ms: float = 10, alike: bool = True) -> Turn:
    return Turn(0, turn, 100, cached, possible, 8, ms, alike)


def test_a_surplus_makes_up_for_no_miss() -> None:
    """Blocks of requests that still run are no hits of others; nothing possible is all of it."""
    assert hit_rate([_turn(64, 32), _turn(0, 32)]) == 0.5
    assert hit_rate([_turn(32, 0)]) == 1.0


def test_ratios_are_taken_within_a_round() -> None:
    """The ratio is the median over rounds, not the ratio of medians; a turn has its own row."""
    rounds = [
        Round([_turn(32, 32, ms=on)], [_turn(0, 0, ms=off), _turn(0, 0, turn=1, ms=off)])
        for on, off in ((10, 100), (30, 100), (50, 1000))
    ]
    one = row(rounds, turn=0)

    assert (one.requests, one.first_text_on_ms, one.first_text_off_ms) == (3, 30, 100)
    assert one.ratio == pytest.approx(0.1)
    assert list(rows(rounds)) == ["1", "all"]
    assert table(rounds).splitlines()[-1].startswith("| all | 3 | 300 | 96 | 96 | 100.0% | 30 ms")


def test_misses_are_told() -> None:
    """Requests below the possible and answers in other tokens are counted."""
    rounds = [Round([_turn(0, 32), _turn(32, 32, alike=False)], [])]

    assert misses(rounds).startswith("1 of 2 requests found less than was possible; 1 answers")


def test_a_seed_says_the_same_again() -> None:
    """Texts depend on seed and conversation alone."""
    assert user_texts(1, 3, 6) == user_texts(1, 3, 6)
    assert user_texts(1, 3, 6) != user_texts(2, 3, 6)
    assert user_texts(1, 3, 6)[0] != user_texts(1, 4, 6)[0]

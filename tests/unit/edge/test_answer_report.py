"""How an answer's times become figures: pure."""

import pytest

from edge.answer_report import AnswerReport
from headrace.client.answers import AnswerTimeline, AnswerUsage


def report(first_text: float | None, *tokens: int) -> AnswerReport:
    """An answer whose outputs have so many tokens."""
    timeline = AnswerTimeline(1, 10.0, first_text)
    return AnswerReport(timeline=timeline, usage=AnswerUsage(completion_tokens=list(tokens)))


@pytest.mark.parametrize(
    ("tokens", "expected"), [((5,), 0.5), ((2, 5, 3), 0.5), ((2,), 2.0), ((1,), None), ((), None)]
)
def test_time_per_token_is_that_of_the_longest_output_behind_its_first(
    tokens: tuple[int, ...], expected: float | None
) -> None:
    """The time after the first text, by the tokens after it; of one token nothing can be said."""
    assert expected == report(12.0, *tokens).token_seconds(11.0, 3.0)


def test_without_a_text_there_are_no_times() -> None:
    """An answer that ended without one has neither."""
    empty = report(None, 5)

    assert (None, None) == (empty.first_text_seconds(9.0), empty.token_seconds(9.0, 3.0))
    assert 2.0 == report(12.0, 5).first_text_seconds(10.0)

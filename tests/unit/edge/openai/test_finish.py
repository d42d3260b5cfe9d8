"""Why a choice ends, over the whole table."""

import itertools

import pytest

from edge.openai.answer_shape import AnswerShape
from edge.openai.finish import FinishReason, finish_reason

SHAPES = [
    AnswerShape(calls_as, is_named)
    for calls_as in ("tools", "functions")
    for is_named in (False, True)
]
TABLE: dict[tuple[str, bool], FinishReason] = {
    ("tools", False): "tool_calls",
    ("tools", True): "stop",
    ("functions", False): "function_call",
    ("functions", True): "stop",
}


@pytest.mark.wire("E3.tools", "E10", "C8")
@pytest.mark.parametrize(
    ("shape", "calls"), [*itertools.product([AnswerShape(), *SHAPES], [0, 1, 5])]
)
def test_a_limit_stays_a_limit(shape: AnswerShape, calls: int) -> None:
    """Truncation is `length`, whatever was called before."""
    assert finish_reason("length", calls, shape) == "length"


@pytest.mark.wire("E3.tools", "C8")
@pytest.mark.parametrize("shape", [AnswerShape(), *SHAPES], ids=str)
def test_without_a_complete_call(shape: AnswerShape) -> None:
    """A text, or a call that broke off, ends with `stop`."""
    assert finish_reason("stop", 0, shape) == "stop"


@pytest.mark.wire("E3.tools", "E13.functions", "C8")
@pytest.mark.parametrize("calls", [1, 2, 128])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_with_complete_calls(shape: AnswerShape, calls: int) -> None:
    """Calls end as their form says, a named function with `stop`."""
    assert shape.calls_as is not None
    assert finish_reason("stop", calls, shape) == TABLE[shape.calls_as, shape.is_named]

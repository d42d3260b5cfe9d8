"""One output's cumulative lists, step by step, in the forms that they may take."""

from dataclasses import dataclass, field
from typing import Any

from headrace.common.v1.finish_pb2 import FINISH_REASON_LENGTH, FINISH_REASON_STOP
from worker.engine.seam import EngineRequest
from worker.engine.tensorrt_llm.cursor import LEAST_LOGPROB, OutputCursor
from worker.engine.tensorrt_llm.sampling_arguments import EndTokens

ENDS = EndTokens(frozenset({2, 7}), of_guides=2)


@dataclass
class Output:
    """An output of a result."""

    token_ids: list[int] = field(default_factory=list)
    logprobs: Any = None
    finish_reason: str | None = None
    stop_reason: str | int | None = None
    index: int = 0


def _cursor(**fields: Any) -> OutputCursor:
    return OutputCursor(EngineRequest("r", 0, (11,), fields.pop("max_tokens", 10), **fields), ENDS)


def test_deltas_are_copies_of_what_is_new() -> None:
    """The list grows in place, also by several ids or none."""
    cursor, output = _cursor(), Output([30])
    first = cursor.step(output, is_finished=False)
    output.token_ids += [31, 32]
    second = cursor.step(output, is_finished=False)
    third = cursor.step(output, is_finished=False)
    output.token_ids.append(33)

    assert (first.token_ids, second.token_ids, third.token_ids) == ([30], [31, 32], [])
    assert (first.end, second.end, third.end) == (None, None, None)
    assert cursor.num_sent == 3


def test_a_list_that_shrinks() -> None:
    """What was given out is not taken back, nor given out again; the stop is named."""
    cursor = _cursor(stop_token_ids=frozenset({33}))
    cursor.step(Output([30, 31, 32]), is_finished=False)
    last = cursor.step(Output([30, 31], finish_reason="stop", stop_reason=33), is_finished=True)

    assert last.token_ids == [33]
    assert cursor.num_sent == 4
    assert last.end is not None
    assert (last.end.finish_reason, last.end.stop_token_id) == (FINISH_REASON_STOP, 33)


def test_a_plain_stop_is_the_end_that_the_library_was_told() -> None:
    """Trimmed or not, it is the last id, once."""
    for shown in ([30], [30, 2]):
        delta = _cursor().step(Output(shown, finish_reason="stop"), is_finished=True)

        assert delta.token_ids == [30, 2]
        assert delta.end is not None
        assert delta.end.stop_token_id == 2


def test_an_end_that_is_shown_before_it_is_told() -> None:
    """It ends the output at once; what follows it is cut off."""
    delta = _cursor().step(Output([30, 7, 40, 41]), is_finished=False)

    assert delta.token_ids == [30, 7]
    assert delta.end is not None
    assert (delta.end.stop_token_id, delta.end.is_early) == (7, True)


def test_ends_before_min_tokens_are_tokens() -> None:
    """Also where the count includes a prefix."""
    cursor = _cursor(min_tokens=4, output_prefix_token_ids=(20,))
    early = cursor.step(Output([7, 30]), is_finished=False)
    late = cursor.step(Output([7, 30, 31, 7]), is_finished=False)

    assert (early.token_ids, early.end) == ([7, 30], None)
    assert late.token_ids == [31, 7]
    assert late.end is not None


def test_the_length() -> None:
    """No more than was asked for, whatever the library shows."""
    cursor = _cursor(max_tokens=5, output_prefix_token_ids=(20, 21))
    delta = cursor.step(Output([30, 31, 32, 33], finish_reason="length"), is_finished=True)

    assert delta.token_ids == [30, 31, 32]
    assert delta.end is not None
    assert delta.end.finish_reason == FINISH_REASON_LENGTH


def test_an_ignored_end_names_no_token() -> None:
    """The library stopped for a reason of its own: nothing is made up."""
    cursor = _cursor(ignore_eos=True)
    delta = cursor.step(Output([2, 30], finish_reason="stop"), is_finished=True)

    assert delta.token_ids == [2, 30]
    assert delta.end is not None
    assert (delta.end.finish_reason, delta.end.stop_token_id) == (FINISH_REASON_STOP, None)


def test_logprobs_that_are_short() -> None:
    """Each id has an entry; what was not told has the least value."""
    cursor = _cursor(logprobs=1)
    delta = cursor.step(Output([30, 31, 32], logprobs=[-0.5, float("nan")]), is_finished=False)

    assert [entry.logprob for entry in delta.logprobs] == [-0.5, LEAST_LOGPROB, LEAST_LOGPROB]
    assert [entry.top for entry in delta.logprobs] == [
        ((30, -0.5),),
        ((31, LEAST_LOGPROB),),
        (),
    ]

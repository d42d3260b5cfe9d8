"""Phases from what an engine noted: adjoining, within the request, cut where it failed."""

import pytest

from headrace.common.v1 import errors_pb2
from headrace.rpc.errors import ServiceError
from worker.engine.seam import EngineRequest, RequestProgress, StartedEvent
from worker.request_end import RequestEnd
from worker.request_phases import Phase, request_phases

FAILED = ServiceError(errors_pb2.ERROR_REASON_ENGINE_FAILURE, "broken")
STARTED = StartedEvent(1, 1, 0, 0, 0)


def phases(
    fed: float | None = None,
    first: float | None = None,
    last: float | None = None,
    *,
    failure: ServiceError | None = None,
    is_started: bool = True,
    is_aborted: bool = False,
) -> list[Phase]:
    """Of a request from 10 to 20."""
    request = EngineRequest("r", 1, [1], 5, progress=RequestProgress(fed, first, last))
    end = RequestEnd(
        request=request,
        model="m",
        started=STARTED if is_started else None,
        outcomes=["any"],
        output_tokens=0,
        longest_output=0,
        failure=failure,
        abort_cause="caller" if is_aborted else None,
    )
    return request_phases(10.0, 20.0, end)


def test_a_good_end_has_three_whole_phases() -> None:
    """Each begins where the one before it ended; the span itself may end later."""
    assert phases(12, 15, 19) == [
        ("queue", 10, 12, True),
        ("prefill", 12, 15, True),
        ("decode", 15, 19, True),
    ]


@pytest.mark.parametrize(
    ("noted", "expected"),
    [
        ((), [("queue", 10, 20, False)]),
        ((12,), [("queue", 10, 12, True), ("prefill", 12, 20, False)]),
        (
            (12, 15),
            [("queue", 10, 12, True), ("prefill", 12, 15, True), ("decode", 15, 20, False)],
        ),
    ],
)
def test_a_failure_cuts_the_phase_that_was_active(
    noted: tuple[float, ...], expected: list[tuple[str, float, float, bool]]
) -> None:
    """It lasts until the request's end; what would have followed does not exist."""
    assert phases(*noted, failure=FAILED) == expected


def test_one_failed_output_of_several_is_a_failed_decode() -> None:
    """Although another had ended well before."""
    assert phases(12, 15, 19, failure=FAILED)[-1] == ("decode", 15, 20, False)


def test_a_first_token_that_nobody_was_told_of_was_none() -> None:
    """An engine on its own thread is ahead of the loop when the request is aborted."""
    assert [each.name for each in phases(12, 15, failure=FAILED, is_started=False)] == [
        "queue",
        "prefill",
    ]


def test_what_a_stop_string_completed_ended_with_its_abort() -> None:
    """Its decode is whole, and another output's earlier end does not cut it."""
    assert phases(12, 15, None, is_aborted=True)[-1] == ("decode", 15, 20, True)
    assert phases(12, 15, 16, is_aborted=True)[-1] == ("decode", 15, 20, True)


def test_times_outside_of_the_request_do_not_make_phases_overlap() -> None:
    """A clock that disagrees gives a phase of no length, never a negative one."""
    assert phases(9, 25, 18) == [
        ("queue", 10, 10, True),
        ("prefill", 10, 20, True),
        ("decode", 20, 20, True),
    ]

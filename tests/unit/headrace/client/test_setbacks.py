"""What is tried once more, and what is not."""

from typing import Any

import pytest

from headrace.client.setbacks import (
    Setback,
    Setbacks,
    cannot_continue,
    is_movable,
    may_reopen,
    peer_lost,
)
from headrace.common.v1 import errors_pb2
from headrace.rpc.errors import ERROR_TABLE, ServiceError

LOST = errors_pb2.ERROR_REASON_WORKER_LOST
DRAINING = errors_pb2.ERROR_REASON_DRAINING
OVERLOADED = errors_pb2.ERROR_REASON_OVERLOADED


class Moved:
    """An output that has gone on elsewhere so often."""

    def __init__(self, num_moves: int = 0, num_refusals: int = 0) -> None:
        self.num_moves, self.num_refusals = num_moves, num_refusals


def may_move(setback: Setback, *outputs: Any) -> bool:
    """A new request's answer."""
    return Setbacks().admit_move(outputs, setback)


def test_the_second_crash_is_final_and_no_drain_is() -> None:
    """Two crashes may be the request's doing; shutdowns between them neither count nor help."""
    setbacks = Setbacks()
    met = [setbacks.worker_lost(is_crash=is_crash) for is_crash in (False, True, False, True)]

    assert [each.error.reason for each in met] == [DRAINING, LOST, DRAINING, LOST]
    assert [each.error.is_final for each in met] == [False, False, False, True]
    assert [setbacks.admit_move([], each) for each in met] == [True, True, True, False]
    assert setbacks.last is met[-1]


def test_a_request_is_refused_once_and_drained_any_number_of_times() -> None:
    """What two workers in a row refuse is not given to a third one."""
    worker: Any = "worker"
    setbacks = Setbacks()
    refused = Setback(ServiceError(OVERLOADED, "full"), refused_by=worker)
    drained = setbacks.worker_lost(is_crash=False)

    assert refused.avoided == {worker}
    assert drained.avoided == frozenset()
    asked = (drained, refused, drained, refused)
    assert [setbacks.admit_anew(each) for each in asked] == [True, True, True, False]


@pytest.mark.parametrize(
    ("output", "is_allowed"),
    [(Moved(63, 1), True), (Moved(64), False), (Moved(1, 2), False)],
)
def test_an_outputs_moves_and_refusals_are_bounded(output: Any, is_allowed: bool) -> None:
    """64 moves, and one refusal since the first of them; of several outputs the worst counts."""
    drained = Setback(peer_lost(0, is_crash=False))

    assert may_move(drained, Moved(), output) == is_allowed
    if not output.num_refusals:
        assert may_reopen(output, drained.error) == is_allowed


def test_a_tokenizers_second_crash_is_final() -> None:
    """An output is not opened at a third one."""
    for num_crashes, is_allowed in ((1, True), (2, False)):
        error = peer_lost(num_crashes, is_crash=True)
        output: Any = Moved()
        assert may_reopen(output, error) == is_allowed


def test_only_a_busy_or_leaving_worker_is_replaced() -> None:
    """What is wrong with a request is wrong everywhere."""
    movable = {reason for reason in ERROR_TABLE if is_movable(ServiceError(reason, "no"))}

    assert movable == {DRAINING, OVERLOADED}
    assert cannot_continue(ServiceError(LOST, "no", "output_prefix_token_ids"))
    assert not cannot_continue(ServiceError(LOST, "no"))

"""Why an output ended: the whole table."""

import pytest

from headrace.client.finish import finish_reason
from headrace.common.v1.finish_pb2 import (
    FINISH_REASON_LENGTH,
    FINISH_REASON_STOP,
    FINISH_REASON_UNSPECIFIED,
    FinishReason,
)


@pytest.mark.parametrize(
    ("stop_string_hit", "worker", "expected"),
    [
        (True, FINISH_REASON_UNSPECIFIED, "stop"),
        (True, FINISH_REASON_STOP, "stop"),
        (True, FINISH_REASON_LENGTH, "stop"),
        (False, FINISH_REASON_STOP, "stop"),
        (False, FINISH_REASON_LENGTH, "length"),
    ],
)
def test_the_stop_string_wins_then_the_worker(
    stop_string_hit: bool, worker: "FinishReason.ValueType", expected: str
) -> None:
    """A stop string is a stop whatever the worker says; otherwise the worker decides."""
    assert expected == finish_reason(stop_string_hit=stop_string_hit, worker=worker)


def test_the_table_knows_every_reason() -> None:
    """A new reason of the worker fails here until the table has a row for it."""
    known = {FINISH_REASON_UNSPECIFIED, FINISH_REASON_STOP, FINISH_REASON_LENGTH}

    assert known == set(FinishReason.values())

"""A caller that leaves around its deadline is late; one that leaves long before has left."""

import pytest

from headrace.rpc.caller_deadline import is_past_callers_deadline


@pytest.mark.parametrize(
    ("remaining", "allowed", "is_late"),
    [
        (-0.1, 1, True),
        (0.0, 1, True),
        (0.06, 1, True),
        (0.07, 1, False),
        (30.0, 30, False),
        # What rounding may add grows with the time.
        (9.0, 1000, True),
        (11.0, 1000, False),
    ],
)
def test_what_is_left_tells_who_ended_a_call(
    remaining: float, allowed: float, *, is_late: bool
) -> None:
    """Within what rounding and the way may take of it, it was the deadline."""
    assert is_past_callers_deadline(remaining, allowed) is is_late

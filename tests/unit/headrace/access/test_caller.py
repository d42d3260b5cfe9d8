"""What is known of a caller."""

import pytest

from headrace.access.caller import ANYBODY, Caller, Limits, TenantClass


@pytest.mark.parametrize(
    ("caller", "expected"),
    [
        (ANYBODY, "anonymous"),
        (Caller(key_id="k"), "unlimited"),
        (Caller(key_id="k", limits=Limits(concurrent_requests=1)), "limited"),
        (Caller(key_id="k", limits=Limits(concurrent_requests=1), is_trusted=True), "trusted"),
    ],
)
def test_metrics_know_callers_by_four_classes(caller: Caller, expected: TenantClass) -> None:
    """A class says what is bounded, never who it is."""
    assert caller.tenant_class == expected

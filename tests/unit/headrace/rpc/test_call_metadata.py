"""Trace and request id in the metadata of unary calls."""

import pytest

from headrace.rpc.call_metadata import (
    MAX_REQUEST_ID_CHARACTERS,
    call_metadata,
    call_request_id,
    call_trace,
)
from headrace.telemetry.trace_context import NO_TRACE, TraceContext

PARENT = f"00-{1:032x}-{2:016x}-01"


def test_what_a_call_carries_is_read_as_it_was() -> None:
    """Both ends agree, also beside other entries."""
    trace = TraceContext(PARENT, "vendor=x")
    metadata = (("authorization", "Bearer k"), *call_metadata(trace, "req-1"))

    assert call_trace(metadata) == trace
    assert call_request_id(metadata) == "req-1"


def test_what_is_empty_is_not_carried() -> None:
    """A call without trace and id has no entries, and is read as having none."""
    assert call_metadata(NO_TRACE) == ()
    assert call_trace(None) == NO_TRACE
    assert call_request_id(()) == ""


@pytest.mark.parametrize("parents", [("nonsense",), (PARENT, PARENT)])
def test_a_trace_that_is_named_wrongly_is_none(parents: tuple[str, ...]) -> None:
    """Malformed or twice: the call is served without."""
    assert call_trace([("traceparent", parent) for parent in parents]) == NO_TRACE


@pytest.mark.parametrize("ids", [("a", "b"), ("x" * (MAX_REQUEST_ID_CHARACTERS + 1),)])
def test_an_id_that_is_no_single_short_one_is_none(ids: tuple[str, ...]) -> None:
    """Logs and spans hold nothing unbounded of what a caller sends."""
    assert call_request_id([("x-request-id", value) for value in ids]) == ""

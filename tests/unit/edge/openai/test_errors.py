"""Failures in OpenAI's form."""

import json

import pytest

from edge.openai.errors import error_body, error_frame, error_headers
from headrace.common.v1 import errors_pb2
from headrace.rpc.errors import ERROR_TABLE, Reason, ServiceError


@pytest.mark.parametrize("reason", list(ERROR_TABLE))
def test_every_reason(reason: Reason) -> None:
    """Every reason has the four keys, and tells clients not to retry where that would hurt."""
    error = ServiceError(reason, "words", "field")
    row = ERROR_TABLE[reason]

    body = json.loads(error_body(error))
    headers = error_headers(error)

    assert {
        "error": {
            "message": "words",
            "type": row.openai_type,
            "param": "field",
            "code": row.openai_code,
        }
    } == body
    assert row.retryable == ("x-should-retry" not in headers)
    assert (row.http_status in {429, 503}) == ("Retry-After" in headers)


def test_finer_code() -> None:
    """A code given where the error is raised wins over the reason's."""
    error = ServiceError(errors_pb2.ERROR_REASON_INVALID_REQUEST, "m", openai_code="empty_array")

    assert "empty_array" == json.loads(error_body(error))["error"]["code"]


@pytest.mark.parametrize(("seconds", "shown"), [(None, "1"), (0.2, "1"), (2.5, "3"), (30, "30")])
def test_retry_after(seconds: float | None, shown: str) -> None:
    """Retry-After is in whole seconds, rounded up."""
    error = ServiceError(errors_pb2.ERROR_REASON_OVERLOADED, "busy", retry_after_seconds=seconds)

    assert {"Retry-After": shown} == error_headers(error)


def test_frame() -> None:
    """The error frame is one event."""
    error = ServiceError(errors_pb2.ERROR_REASON_WORKER_LOST, "gone\nfor good")

    assert error_frame(error) == b"data: " + error_body(error) + b"\n\n"
    assert error_frame(error).count(b"\n") == 2

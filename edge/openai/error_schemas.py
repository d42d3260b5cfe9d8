"""Failures as the OpenAPI document has them: a response a status, from the table of errors."""

from collections.abc import Collection, Iterable

from edge.openai.checks import Schema
from edge.openai.errors import error_headers
from headrace.common.v1 import errors_pb2
from headrace.rpc.errors import ERROR_TABLE, Reason, ServiceError, reason_label

LIMIT_TYPES = ("requests", "tokens")
"""Types of the refusals that name the limit of a key: see headrace/access/refusals.py."""
NEVER_ANSWERED = frozenset(
    (
        errors_pb2.ERROR_REASON_CLIENT_CANCELLED,
        errors_pb2.ERROR_REASON_SLOW_READER,
        errors_pb2.ERROR_REASON_EDGE_LOST,
    )
)
"""Reasons whose client is gone: nobody sees them."""


def envelope_schema() -> Schema:
    """Every failure's body, whatever its status, and the event that ends a stream that failed."""
    types = {row.openai_type for row in ERROR_TABLE.values()}.union(LIMIT_TYPES)
    properties = {
        "message": {"type": "string"},
        "type": {"enum": sorted(types)},
        "param": {"type": ["string", "null"]},
        "code": {"type": ["string", "null"]},
    }
    error = {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }
    return {
        "type": "object",
        "properties": {"error": error},
        "required": ["error"],
        "additionalProperties": False,
    }


def reasons_by_status(reasons: Iterable[Reason]) -> dict[int, list[Reason]]:
    """The reasons that end in each HTTP status, by status."""
    found: dict[int, list[Reason]] = {}
    for reason in reasons:
        found.setdefault(ERROR_TABLE[reason].http_status, []).append(reason)
    return dict(sorted(found.items()))


def describe(reasons: Collection[Reason]) -> str:
    """Which failures a status stands for, with their codes."""
    parts = []
    for reason in reasons:
        code = ERROR_TABLE[reason].openai_code
        parts.append(reason_label(reason) + (f" (code `{code}`)" if code else ""))
    return "; ".join(parts)


def header_names(reasons: Collection[Reason]) -> list[str]:
    """Headers that an answer to one of these may have beside those of every answer."""
    names = {name for reason in reasons for name in error_headers(ServiceError(reason, ""))}
    if any(ERROR_TABLE[reason].retryable for reason in reasons):
        # Of a retryable failure that is final for this request.
        names.add("x-should-retry")
    return sorted(names)

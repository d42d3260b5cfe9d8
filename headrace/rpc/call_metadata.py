"""What the metadata of a unary call says beside the key: its trace, and the request's id.

On the shared streams both stand in the messages, since a stream's metadata is no request's.
"""

from collections.abc import Iterable

from headrace.rpc.bearer import Metadata
from headrace.telemetry.trace_context import TraceContext, read_trace_context

TRACEPARENT = "traceparent"
TRACESTATE = "tracestate"
REQUEST_ID = "x-request-id"
MAX_REQUEST_ID_CHARACTERS = 128


def call_metadata(trace: TraceContext, request_id: str = "") -> Metadata:
    """The entries that a call carries for these; none for what is empty."""
    entries = (
        (TRACEPARENT, trace.traceparent),
        (TRACESTATE, trace.tracestate),
        (REQUEST_ID, request_id),
    )
    return tuple(entry for entry in entries if entry[1])


def call_trace(metadata: Iterable[tuple[str, str | bytes]] | None) -> TraceContext:
    """The trace that a call belongs to; NO_TRACE for one that names none, or names it wrongly."""
    entries = list(metadata or ())
    return read_trace_context(_values(entries, TRACEPARENT), _values(entries, TRACESTATE))


def call_request_id(metadata: Iterable[tuple[str, str | bytes]] | None) -> str:
    """What the caller calls its request; empty for none, and for what is no single short id."""
    values = _values(metadata or (), REQUEST_ID)
    return values[0] if len(values) == 1 and len(values[0]) <= MAX_REQUEST_ID_CHARACTERS else ""


def _values(metadata: Iterable[tuple[str, str | bytes]], name: str) -> list[str]:
    return [str(value) for key, value in metadata if key == name]

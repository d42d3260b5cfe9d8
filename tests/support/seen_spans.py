"""Spans as whoever looks at a trace sees them, whichever way they came here."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, Span, Status

from headrace.telemetry.names import ERROR_TYPE
from headrace.telemetry.spans import SpanKind
from tests.support.span_recorder import RecordedSpan

UNSET, OK, ERROR = "unset", "ok", "error"
_STATUS = {
    Status.STATUS_CODE_UNSET: UNSET,
    Status.STATUS_CODE_OK: OK,
    Status.STATUS_CODE_ERROR: ERROR,
}


@dataclass(frozen=True)
class SeenSpan:
    """One span; times in nanoseconds since 1970, ids in hexadecimal digits, "" for no parent."""

    service: str
    name: str
    kind: SpanKind
    trace_id: str
    span_id: str
    parent_id: str
    start_ns: int
    end_ns: int
    status: str
    attributes: Mapping[str, Any]
    events: tuple[tuple[str, int], ...]
    """Name and time of each."""
    resource: Mapping[str, Any]
    state: str = ""
    """W3C's tracestate."""

    @property
    def seconds(self) -> float:
        """How long it took."""
        return (self.end_ns - self.start_ns) / 1e9


def from_otlp(exported: ResourceSpans) -> list[SeenSpan]:
    """All spans of one resource."""
    resource = _mapping(exported.resource.attributes)
    return [_seen(span, resource) for scope in exported.scope_spans for span in scope.spans]


def from_recorder(span: RecordedSpan, service: str) -> SeenSpan:
    """A span of the seam's fake, which has ended."""
    if span.end_ns is None:
        raise AssertionError(f"{span.name} was not ended")
    attributes = dict(span.attributes)
    if span.error is not None:
        attributes[ERROR_TYPE] = span.error[0]
    return SeenSpan(
        service,
        span.name,
        span.kind,
        span.trace_id,
        span.span_id,
        span.parent_id,
        span.start_ns,
        span.end_ns,
        UNSET if span.error is None else ERROR,
        attributes,
        tuple(
            (name, at_ns) for (name, _), at_ns in zip(span.events, span.event_times_ns, strict=True)
        ),
        {},
        span.state,
    )


def _seen(span: Span, resource: Mapping[str, Any]) -> SeenSpan:
    return SeenSpan(
        str(resource.get("service.name", "")),
        span.name,
        SpanKind(span.kind),
        span.trace_id.hex(),
        span.span_id.hex(),
        span.parent_span_id.hex(),
        span.start_time_unix_nano,
        span.end_time_unix_nano,
        _STATUS[span.status.code],
        _mapping(span.attributes),
        tuple((event.name, event.time_unix_nano) for event in span.events),
        resource,
        span.trace_state,
    )


def _mapping(pairs: Any) -> dict[str, Any]:
    """Attributes by name; one that comes twice is what a receiver must not be sent."""
    found: dict[str, Any] = {}
    for pair in pairs:
        _require_new(pair, found)
        found[pair.key] = _plain(pair.value)
    return found


def _require_new(pair: KeyValue, found: Mapping[str, Any]) -> None:
    if pair.key in found:
        raise AssertionError(f"the attribute {pair.key} comes twice")


def _plain(value: AnyValue) -> Any:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [_plain(each) for each in value.array_value.values]
    if kind == "kvlist_value":
        return _mapping(value.kvlist_value.values)
    return None if kind is None else getattr(value, kind)

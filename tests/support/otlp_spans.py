"""Finished spans as a service exports them over OTLP."""

from collections.abc import Sequence

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, ArrayValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from headrace.telemetry.span_tree import FinishedSpan
from headrace.telemetry.spans import AttributeValue


def export_of(spans: Sequence[FinishedSpan]) -> ExportTraceServiceRequest:
    """One export; the spans' ids are any texts of up to 8 characters, traces hexadecimal."""
    request = ExportTraceServiceRequest()
    for span in spans:
        resource = request.resource_spans.add()
        name = AnyValue(string_value=f"headrace-{span.service}")
        resource.resource.attributes.append(KeyValue(key="service.name", value=name))
        resource.scope_spans.add().spans.append(_exported(span))
    return request


def span_id(text: str) -> bytes:
    """Eight bytes of a short name; none of none."""
    return text.encode().rjust(8, b"-")[:8] if text else b""


def _exported(span: FinishedSpan) -> Span:
    code = Status.STATUS_CODE_ERROR if span.is_error else Status.STATUS_CODE_UNSET
    return Span(
        trace_id=bytes.fromhex(span.trace_id),
        span_id=span_id(span.span_id),
        parent_span_id=span_id(span.parent_id),
        name=span.name,
        kind=Span.SpanKind.ValueType(span.kind),
        start_time_unix_nano=span.start_ns,
        end_time_unix_nano=span.end_ns,
        attributes=[KeyValue(key=k, value=_value(v)) for k, v in span.attributes.items()],
        status=Status(code=code, message=span.message),
    )


def _value(value: AttributeValue) -> AnyValue:
    match value:
        case bool():
            return AnyValue(bool_value=value)
        case int():
            return AnyValue(int_value=value)
        case float():
            return AnyValue(double_value=value)
        case str():
            return AnyValue(string_value=value)
        case _:
            values = [AnyValue(string_value=item) for item in value]
            return AnyValue(array_value=ArrayValue(values=values))

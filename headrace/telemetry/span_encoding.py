"""Spans as OTLP's messages, opentelemetry/proto/trace/v1/trace.proto.

Encoding never fails: what the format cannot hold is replaced or written as text. Written for the
C runtime of protobuf, and without the SDK's spans: a span with 13 attributes takes 18 µs from its
beginning to its bytes, and 68 µs as the SDK records and encodes it.
"""

from collections.abc import Callable
from itertools import count
from typing import Final

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import Span, SpanFlags, Status

from headrace.telemetry.recorded_span import RecordedSpan
from headrace.telemetry.spans import Attributes, AttributeValue, SpanKind

MAX_TEXT_CHARACTERS: Final = 65_536
"""Longer values are cut: collectors take 4 MiB a message."""
MAX_BATCH_BYTES: Final = 1_048_576
"""A batch is full once it has as many, however few spans they are."""
_SCOPE: Final = "headrace"
_INT64: Final = range(-(1 << 63), 1 << 63)
_KNOWS_REMOTE: Final = SpanFlags.SPAN_FLAGS_CONTEXT_HAS_IS_REMOTE_MASK
_IS_REMOTE: Final = SpanFlags.SPAN_FLAGS_CONTEXT_IS_REMOTE_MASK


def encode_resource(attributes: Attributes) -> Resource:
    """What makes the spans, as the collector gets it with every batch."""
    resource = Resource()
    for key, value in attributes.items():
        added = resource.attributes.add()
        added.key = _text(key)
        _put(added.value, value)
    return resource


def encode_batch(
    resource: Resource, take: Callable[[], RecordedSpan | None], max_spans: int
) -> tuple[ExportTraceServiceRequest, int]:
    """A request with the next spans, and how many: `max_spans` or 1 MiB of them, or all."""
    request = ExportTraceServiceRequest()
    group = request.resource_spans.add()
    group.resource.CopyFrom(resource)
    scoped = group.scope_spans.add()
    scoped.scope.name = _SCOPE
    size = 0
    for number in count():
        span = take() if number < max_spans and size < MAX_BATCH_BYTES else None
        if span is None:
            return request, number
        encoded = scoped.spans.add()
        encode_span(span, encoded)
        size += encoded.ByteSize()
    raise AssertionError("counting does not end")


def encode_span(span: RecordedSpan, into: Span) -> None:
    """Write a span that has ended into an empty message."""
    place = span.place
    into.trace_id = bytes.fromhex(place.trace_id)
    into.span_id = bytes.fromhex(place.span_id)
    into.flags = int(place.flags, 16) | _KNOWS_REMOTE
    if place.parent_id:
        into.parent_span_id = bytes.fromhex(place.parent_id)
        if span.kind is SpanKind.SERVER:
            into.flags |= _IS_REMOTE
    into.trace_state = place.state
    into.name = _text(span.name)
    into.kind = Span.SpanKind.ValueType(span.kind)
    into.start_time_unix_nano = span.start_ns
    into.end_time_unix_nano = span.start_ns if span.end_ns is None else span.end_ns
    add = into.attributes.add
    for key, value in span.attributes.items():
        added = add()
        added.key = key
        _put(added.value, value)
    if span.has_failed:
        into.status.code = Status.STATUS_CODE_ERROR
        into.status.message = _text(span.error_message)
    if span.events:
        _add_events(span, into)


def _add_events(span: RecordedSpan, into: Span) -> None:
    for event in span.events:
        added = into.events.add()
        added.name = event.name
        added.time_unix_nano = event.at_ns
        for key, value in event.attributes.items():
            attribute = added.attributes.add()
            attribute.key = key
            _put(attribute.value, value)


def _put(target: AnyValue, value: AttributeValue) -> None:
    # In the order of how often they come; a bool is an int too.
    if isinstance(value, str):
        target.string_value = _text(value)
    elif isinstance(value, bool):
        target.bool_value = value
    elif isinstance(value, int):
        if value in _INT64:
            target.int_value = value
        else:
            # A seed may be any number.
            target.string_value = _text(str(value))
    elif isinstance(value, float):
        target.double_value = value
    else:
        target.array_value.SetInParent()
        values = target.array_value.values
        for item in value:
            values.add().string_value = _text(item)


def _text(value: str) -> str:
    """The text as UTF-8 can hold it: clients' headers and JSON may have lone surrogates."""
    if len(value) > MAX_TEXT_CHARACTERS:
        value = value[:MAX_TEXT_CHARACTERS]
    return value if value.isascii() else value.encode("utf-8", "replace").decode()

"""Spans as OTLP's messages; times, ids and values as the protocol has them."""

import pytest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, ArrayValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span, SpanFlags, Status

from headrace.telemetry.clock import SpanClock
from headrace.telemetry.recorded_span import RecordedSpan, SpanPlace, SpanTaker
from headrace.telemetry.span_encoding import (
    MAX_BATCH_BYTES,
    MAX_TEXT_CHARACTERS,
    encode_batch,
    encode_resource,
    encode_span,
)
from headrace.telemetry.spans import Attributes, AttributeValue, SpanKind

TRACE, OWN, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331", "00f067aa0ba902b7"


def ended(
    kind: SpanKind = SpanKind.INTERNAL,
    parent_id: str = PARENT,
    attributes: Attributes | None = None,
) -> RecordedSpan:
    taker = SpanTaker(SpanClock(), lambda _: None)
    place = SpanPlace(TRACE, OWN, parent_id, "01", "a=b")
    span = RecordedSpan(taker, "prefill", kind, place, attributes, 1_000)
    span.end(3_000)
    return span


def encoded(span: RecordedSpan) -> Span:
    message = Span()
    encode_span(span, message)
    return message


def value_of(value: AttributeValue) -> AnyValue:
    return encoded(ended(attributes={"name": value})).attributes[0].value


def test_whole_span() -> None:
    """Ids as bytes, times in nanoseconds, attributes, events and the failure."""
    taker = SpanTaker(SpanClock(), lambda _: None)
    place = SpanPlace(TRACE, OWN, PARENT, "03", "a=b")
    span = RecordedSpan(taker, "decode", SpanKind.INTERNAL, place, {"tokens": 3}, 1_000)
    span.event("first_token", {"text": "x"}, at_ns=2_000)
    span.fail("worker_lost", "it went away")
    span.end(3_000)

    assert encoded(span) == Span(
        trace_id=bytes.fromhex(TRACE),
        span_id=bytes.fromhex(OWN),
        parent_span_id=bytes.fromhex(PARENT),
        trace_state="a=b",
        flags=SpanFlags.SPAN_FLAGS_CONTEXT_HAS_IS_REMOTE_MASK | 0x03,
        name="decode",
        kind=Span.SPAN_KIND_INTERNAL,
        start_time_unix_nano=1_000,
        end_time_unix_nano=3_000,
        attributes=[
            KeyValue(key="tokens", value=AnyValue(int_value=3)),
            KeyValue(key="error.type", value=AnyValue(string_value="worker_lost")),
        ],
        events=[
            Span.Event(
                time_unix_nano=2_000,
                name="first_token",
                attributes=[KeyValue(key="text", value=AnyValue(string_value="x"))],
            )
        ],
        status=Status(code=Status.STATUS_CODE_ERROR, message="it went away"),
    )


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (SpanKind.INTERNAL, Span.SPAN_KIND_INTERNAL),
        (SpanKind.SERVER, Span.SPAN_KIND_SERVER),
        (SpanKind.CLIENT, Span.SPAN_KIND_CLIENT),
    ],
)
def test_kinds(kind: SpanKind, expected: Span.SpanKind.ValueType) -> None:
    """A kind is the protocol's; only a server's parent is remote."""
    message = encoded(ended(kind))
    is_remote = bool(message.flags & SpanFlags.SPAN_FLAGS_CONTEXT_IS_REMOTE_MASK)
    assert (message.kind, is_remote) == (expected, kind is SpanKind.SERVER)


def test_first_span_of_a_trace() -> None:
    """It has no parent, and no status where nothing failed."""
    message = encoded(ended(SpanKind.SERVER, parent_id=""))
    assert message.parent_span_id == b""
    assert not message.flags & SpanFlags.SPAN_FLAGS_CONTEXT_IS_REMOTE_MASK
    assert message.status.code == Status.STATUS_CODE_UNSET


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("text", AnyValue(string_value="text")),
        ("", AnyValue(string_value="")),
        (True, AnyValue(bool_value=True)),
        (False, AnyValue(bool_value=False)),
        (0, AnyValue(int_value=0)),
        (-5, AnyValue(int_value=-5)),
        ((1 << 63) - 1, AnyValue(int_value=(1 << 63) - 1)),
        (1 << 63, AnyValue(string_value="9223372036854775808")),
        (0.5, AnyValue(double_value=0.5)),
        (("stop", "length"), AnyValue(array_value=ArrayValue(
            values=[AnyValue(string_value="stop"), AnyValue(string_value="length")]))),
        ((), AnyValue(array_value=ArrayValue())),
    ],
)  # fmt: skip
def test_values(value: AttributeValue, expected: AnyValue) -> None:
    """Every type of value has its own in the protocol; a number that is too big is text."""
    assert value_of(value) == expected


def test_text_that_is_no_utf8() -> None:
    """Lone surrogates, which headers and JSON may hold, are replaced: nothing fails."""
    assert value_of("vi\udce9 \ud83d").string_value == "vi? ?"
    assert value_of("café 🦀").string_value == "café 🦀"


def test_long_text_is_cut() -> None:
    """A value keeps its beginning: collectors bound their messages."""
    long = "x" * MAX_TEXT_CHARACTERS
    assert value_of(long + "y").string_value == long


def test_batch() -> None:
    """A batch carries the resource and the spans in their order, so many at most."""
    resource = encode_resource({"service.name": "headrace-edge"})
    waiting = [ended(attributes={"number": number}) for number in range(5)]
    supply = iter(waiting)
    request, spans = encode_batch(resource, lambda: next(supply, None), 3)
    rest, num_rest = encode_batch(resource, lambda: next(supply, None), 3)
    none, num_none = encode_batch(resource, lambda: next(supply, None), 3)

    group = request.resource_spans[0]
    numbers = [span.attributes[0].value.int_value for span in group.scope_spans[0].spans]
    assert (spans, numbers, group.resource) == (3, [0, 1, 2], resource)
    assert (num_rest, len(rest.resource_spans[0].scope_spans[0].spans)) == (2, 2)
    assert (num_none, len(none.resource_spans[0].scope_spans[0].spans)) == (0, 0)


def test_batch_of_big_spans() -> None:
    """A batch ends with the span that fills it: no message grows to what collectors refuse."""
    span = ended(attributes={f"name{number}": "x" * MAX_TEXT_CHARACTERS for number in range(5)})
    request, spans = encode_batch(encode_resource({}), lambda: span, 256)
    size = encoded(span).ByteSize()
    assert spans == -(-MAX_BATCH_BYTES // size) == 4
    assert request.ByteSize() < MAX_BATCH_BYTES + size

"""Finished spans of one request, as the three services export them."""

from headrace.telemetry import names
from headrace.telemetry.span_tree import FinishedSpan
from headrace.telemetry.spans import AttributeValue, SpanKind

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
ROUTE = "POST /v1/chat/completions"
MS = 1_000_000

_KINDS = {"s": SpanKind.SERVER, "c": SpanKind.CLIENT, "i": SpanKind.INTERNAL}
_RENDER = {names.RPC_METHOD: names.RENDER_METHOD, names.RPC_STATUS: "OK"}
_GENERATE = {names.RPC_METHOD: names.GENERATE_METHOD, names.RPC_STATUS: "OK"}
_ROWS: tuple[tuple[str, str, str, str, str, int, int, dict[str, AttributeValue]], ...] = (
    ("http", "", ROUTE, "s", "edge", 0, 500, {names.HTTP_METHOD: "POST", names.HTTP_STATUS: 200}),
    ("chat", "http", "chat m", "c", "edge", 2, 498, {names.USAGE_INPUT_TOKENS: 42}),
    ("render", "chat", names.RENDER_METHOD, "c", "edge", 3, 20, _RENDER),
    ("rendered", "render", names.RENDER_METHOD, "s", "tokenizer", 5, 18, _RENDER),
    ("generate", "chat", names.GENERATE_METHOD, "c", "edge", 21, 490, _GENERATE),
    ("served", "generate", names.GENERATE_METHOD, "s", "worker", 23, 488, _GENERATE),
    ("queue", "served", names.QUEUE_PHASE, "i", "worker", 23, 30, {}),
    ("prefill", "served", names.PREFILL_PHASE, "i", "worker", 30, 90, {}),
    ("decode", "served", names.DECODE_PHASE, "i", "worker", 90, 488, {}),
)


def finished_span(
    span_id: str,
    parent_id: str = "",
    name: str = "work",
    *,
    kind: SpanKind = SpanKind.INTERNAL,
    trace_id: str = TRACE,
    attributes: dict[str, AttributeValue] | None = None,
    error: str | None = None,
) -> FinishedSpan:
    """A span from 0 to 1 ms; with `error` it failed with that message."""
    return FinishedSpan(
        trace_id=trace_id,
        span_id=span_id,
        parent_id=parent_id,
        name=name,
        kind=kind,
        service="edge",
        start_ns=0,
        end_ns=MS,
        attributes=attributes or {},
        is_error=error is not None,
        message=error or "",
    )


def request_spans(trace_id: str = TRACE, parent_id: str = "") -> dict[str, FinishedSpan]:
    """The nine spans of a streamed request, by id; the first is below `parent_id`."""
    return {
        span_id: FinishedSpan(
            trace_id=trace_id,
            span_id=span_id,
            parent_id=parent or parent_id,
            name=name,
            kind=_KINDS[kind],
            service=service,
            start_ns=start * MS,
            end_ns=end * MS,
            attributes=attributes,
        )
        for span_id, parent, name, kind, service, start, end, attributes in _ROWS
    }

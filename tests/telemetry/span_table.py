"""What each scenario's trace must be: the only table of it.

Names, kinds, parents, attributes, status and events of every span, from the HTTP server's down to
the engine's phases. What a failure costs is seen where it happened, and nowhere else: phases that
were over keep their good end, those that never began do not occur.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from headrace.telemetry import names
from headrace.telemetry.spans import SpanKind
from tests.support.chat_client import CHAT_PATH
from tests.support.seen_spans import ERROR, UNSET
from tests.support.stack import MODEL
from tests.support.trace_check import NoLess, Row, Text

EDGE, TOKENIZER, WORKER = "headrace-edge", "headrace-tokenizer", "headrace-worker"
CANCELLED = "client_cancelled"
_REQUEST_ID = Text(r"req[_-][0-9a-f]+")
_ADDRESS = Text(r"127\.0\.0\.1:\d+")


@dataclass(frozen=True)
class Asked:
    """A request, and what is known of its answer."""

    stream: bool = False
    choices: int = 1
    input_tokens: int | None = None
    cached_tokens: int = 0
    output_tokens: int | None = None
    finish_reasons: Sequence[str] = ("length",)
    model: str = MODEL
    route: str = CHAT_PATH
    path: str = CHAT_PATH


@dataclass(frozen=True)
class Failed:
    """How a span ended that did not end well."""

    error_type: str
    rpc_status: str = ""
    status: str = ERROR


def http(
    asked: Asked,
    status: int | None,
    *children: Row,
    failed: Failed | None = None,
    method: str = "POST",
) -> Row:
    """The edge's server span; no status code where nobody was there to get one."""
    attributes = {
        names.HTTP_METHOD: method,
        names.HTTP_ROUTE: asked.route,
        names.URL_PATH: asked.path,
        names.URL_SCHEME: "http",
        names.PROTOCOL_VERSION: "1.1",
        names.REQUEST_ID: _REQUEST_ID,
        **({} if status is None else {names.HTTP_STATUS: status}),
    }
    absent = () if status is not None else (names.HTTP_STATUS,)
    name = f"{method} {asked.route}"
    return _row(
        name, SpanKind.SERVER, EDGE, attributes, absent=absent, failed=failed, children=children
    )


def chat(asked: Asked, *children: Row, failed: Failed | None = None, first: bool = True) -> Row:
    """The model span; `first` says that a first token came."""
    attributes: dict[str, Any] = {
        names.OPERATION: names.CHAT_OPERATION,
        names.PROVIDER: "headrace",
        names.REQUEST_MODEL: asked.model,
        names.REQUEST_STREAM: asked.stream,
        names.OUTPUT_TYPE: "text",
        names.REQUEST_ID: _REQUEST_ID,
    }
    absent: tuple[str, ...] = ()
    if asked.choices == 1:
        absent += (names.REQUEST_CHOICES,)
    else:
        attributes[names.REQUEST_CHOICES] = asked.choices
    if failed is None:
        attributes |= _answer(asked)
    else:
        absent += (names.RESPONSE_FINISH_REASONS,)
    if first and asked.stream:
        attributes[names.RESPONSE_TIME_TO_FIRST_CHUNK] = NoLess(0)
    else:
        absent += (names.RESPONSE_TIME_TO_FIRST_CHUNK,)
    row = _row(
        f"chat {asked.model}",
        SpanKind.CLIENT,
        EDGE,
        attributes,
        absent=absent,
        failed=failed,
        children=children,
    )
    return replace(row, events=[names.FIRST_TOKEN_EVENT] if first else [])


def _answer(asked: Asked) -> dict[str, Any]:
    return {
        names.RESPONSE_ID: Text(r"chatcmpl-\w+"),
        names.RESPONSE_MODEL: asked.model,
        names.RESPONSE_FINISH_REASONS: list(asked.finish_reasons),
        names.USAGE_INPUT_TOKENS: _count(asked.input_tokens),
        names.USAGE_CACHED_TOKENS: asked.cached_tokens,
        names.USAGE_OUTPUT_TOKENS: _count(asked.output_tokens),
    }


def _count(known: int | None) -> Any:
    return NoLess(1) if known is None else known


def render(failed: Failed | None = None, *, reached: bool = True, attempt: int = 1) -> Row:
    """Rendering, seen from both sides; a tokenizer that is lost tells nothing of it."""
    server = _rpc(names.RENDER_METHOD, SpanKind.SERVER, TOKENIZER, failed)
    client = _rpc(names.RENDER_METHOD, SpanKind.CLIENT, EDGE, failed)
    more = {names.ATTEMPT: attempt, names.PEER_ADDRESS: _ADDRESS}
    return _with(client, more, [server] if reached else [])


def generate(
    asked: Asked,
    *phases: Row,
    failed: Failed | None = None,
    attempt: int = 1,
    reached: bool = True,
    worker_failed: Failed | None = None,
) -> Row:
    """One attempt; a worker that is lost tells nothing of it, one that refuses has no phases."""
    server = _rpc(names.GENERATE_METHOD, SpanKind.SERVER, WORKER, worker_failed or failed)
    if phases:
        server = _with(server, {names.OUTPUTS: asked.choices}, phases)
    if (worker_failed or failed) is not None:
        # Both end for the same cause, neither waits for the other.
        server = replace(server, outlives_parent=True)
    client = _rpc(names.GENERATE_METHOD, SpanKind.CLIENT, EDGE, failed)
    more = {names.ATTEMPT: attempt, names.PEER_ADDRESS: _ADDRESS}
    return _with(client, more, [server] if reached else [])


def phases(asked: Asked, ended: str = "", error: Failed | None = None) -> list[Row]:
    """Queue, prefill and decode, as far as they came: `ended` is the last one, which failed."""
    known = asked.input_tokens
    computed = NoLess(1) if known is None else known - asked.cached_tokens
    rows: dict[str, dict[str, Any]] = {
        names.QUEUE_PHASE: {},
        names.PREFILL_PHASE: {
            names.CACHED_TOKENS: asked.cached_tokens,
            names.COMPUTED_TOKENS: computed,
        },
        names.DECODE_PHASE: {names.OUTPUT_TOKENS: _count(asked.output_tokens)},
    }
    found = []
    for name, attributes in rows.items():
        failed = error if name == ended else None
        kept = {} if failed is not None else attributes
        found.append(_row(name, SpanKind.INTERNAL, WORKER, kept, failed=failed))
        if name == ended:
            break
    return found


def _rpc(method: str, kind: SpanKind, service: str, failed: Failed | None) -> Row:
    status = "OK" if failed is None else failed.rpc_status
    attributes = {
        names.RPC_SYSTEM: "grpc",
        names.RPC_METHOD: method,
        names.RPC_STATUS: status,
        names.REQUEST_ID: _REQUEST_ID,
    }
    return _row(method, kind, service, attributes, failed=failed)


def _row(
    name: str,
    kind: SpanKind,
    service: str,
    attributes: Mapping[str, Any],
    *,
    absent: Sequence[str] = (),
    failed: Failed | None = None,
    children: Sequence[Row] = (),
) -> Row:
    if failed is None:
        return Row(name, kind, service, attributes, (*absent, names.ERROR_TYPE), children=children)
    attributes = {**attributes, names.ERROR_TYPE: failed.error_type}
    return Row(name, kind, service, attributes, absent, failed.status, children=children)


def _with(row: Row, attributes: Mapping[str, Any], children: Sequence[Row]) -> Row:
    return replace(row, attributes={**row.attributes, **attributes}, children=children)


def _answered(asked: Asked) -> Row:
    answer = generate(asked, *phases(asked))
    return http(asked, 200, chat(asked, render(), answer))


# Who left: on spans of calls and of the model an error, on the server's span none of the server's,
# and no status but one that was sent: a stream's goes out with its first text.
_GONE = Failed(CANCELLED, "CANCELLED")
_GONE_HTTP = Failed(CANCELLED, status=UNSET)


def _left(asked: Asked, phase: str) -> Row:
    attempt = generate(asked, *phases(asked, phase, _GONE), failed=_GONE)
    has_text = phase == names.DECODE_PHASE
    model = chat(asked, render(), attempt, failed=_GONE, first=has_text)
    return http(asked, 200 if has_text and asked.stream else None, model, failed=_GONE_HTTP)


def _dropped(asked: Asked) -> Row:
    """The client did not leave: everybody who worked for it is told."""
    slow = Failed("slow_reader", "CANCELLED")
    attempt = generate(asked, *phases(asked, names.DECODE_PHASE, slow), failed=slow)
    model = chat(asked, render(), attempt, failed=slow)
    return http(asked, 200, model, failed=Failed("slow_reader", status=UNSET))


def _left_waiting(asked: Asked) -> Row:
    return http(asked, None, chat(asked, failed=_GONE, first=False), failed=_GONE_HTTP)


def _left_rendering(asked: Asked) -> Row:
    server = replace(render(_GONE).children[0], outlives_parent=True, is_optional=True)
    rendering = replace(render(_GONE), children=[server])
    return http(asked, None, chat(asked, rendering, failed=_GONE, first=False), failed=_GONE_HTTP)


_LATE = Failed("deadline_exceeded", "DEADLINE_EXCEEDED")


def _late(phase: str) -> Callable[[Asked], Row]:
    def tree(asked: Asked) -> Row:
        has_text = phase == names.DECODE_PHASE
        attempt = generate(asked, *phases(asked, phase, _LATE), failed=_LATE)
        model = chat(asked, render(), attempt, failed=_LATE, first=has_text)
        return http(asked, 200 if has_text and asked.stream else 504, model, failed=_LATE)

    return tree


def _rendered_late(asked: Asked) -> Row:
    server = replace(render(_LATE).children[0], outlives_parent=True, is_optional=True)
    rendering = replace(render(_LATE), children=[server])
    return http(asked, 504, chat(asked, rendering, failed=_LATE, first=False), failed=_LATE)


def _refused(status: int, error_type: str) -> Callable[[Asked], Row]:
    """Before anything was asked of a model."""
    failed = Failed(error_type, status=ERROR if status >= 500 else UNSET)
    return lambda asked: http(asked, status, failed=failed)


def _refused_model(status: int, error_type: str) -> Callable[[Asked], Row]:
    """Before anything was rendered."""

    def tree(asked: Asked) -> Row:
        failed = Failed(error_type, status=ERROR if status >= 500 else UNSET)
        model = chat(asked, failed=Failed(error_type), first=False)
        return http(asked, status, model, failed=failed)

    return tree


def _refused_render(status: int, error_type: str, code: str) -> Callable[[Asked], Row]:
    """By the tokenizer."""

    def tree(asked: Asked) -> Row:
        failed = Failed(error_type, status=ERROR if status >= 500 else UNSET)
        rendering = render(Failed(error_type, code))
        model = chat(asked, rendering, failed=Failed(error_type), first=False)
        return http(asked, status, model, failed=failed)

    return tree


def _refused_generate(status: int, error_type: str, code: str) -> Callable[[Asked], Row]:
    """By the worker, before it was queued."""

    def tree(asked: Asked) -> Row:
        failed = Failed(error_type, status=ERROR if status >= 500 else UNSET)
        attempt = generate(asked, failed=Failed(error_type, code))
        model = chat(asked, render(), attempt, failed=Failed(error_type), first=False)
        return http(asked, status, model, failed=failed)

    return tree


_LOST = Failed("worker_lost", "UNAVAILABLE")


# A unary call of a peer that is gone ends as gRPC says: nobody is there.
_NOBODY = Failed("no_worker_available", "UNAVAILABLE")


def _tokenizer_lost(asked: Asked) -> Row:
    rendering = render(_NOBODY, reached=False)
    return http(asked, 503, chat(asked, rendering, failed=_NOBODY, first=False), failed=_NOBODY)


def _rendered_elsewhere(asked: Asked) -> Row:
    tries = [render(_NOBODY, reached=False), render(attempt=2)]
    return http(asked, 200, chat(asked, *tries, generate(asked, *phases(asked))))


def _retried(asked: Asked) -> Row:
    attempts = [
        generate(asked, failed=_LOST, reached=False),
        generate(asked, *phases(asked), attempt=2),
    ]
    return http(asked, 200, chat(asked, render(), *attempts))


def _moved(asked: Asked) -> Row:
    full = Failed("overloaded", "RESOURCE_EXHAUSTED")
    attempts = [generate(asked, failed=full), generate(asked, *phases(asked), attempt=2)]
    return http(asked, 200, chat(asked, render(), *attempts))


def _ended_by_loss(asked: Asked) -> Row:
    attempt = generate(asked, failed=_LOST, reached=False)
    return http(asked, 200, chat(asked, render(), attempt, failed=_LOST), failed=_LOST)


_BROKEN = Failed("engine_failure", "INTERNAL")


def _engine_failed(asked: Asked) -> Row:
    attempt = generate(asked, *phases(asked, names.DECODE_PHASE, _BROKEN), failed=_BROKEN)
    status = 200 if asked.stream else 500
    return http(asked, status, chat(asked, render(), attempt, failed=_BROKEN), failed=_BROKEN)


SCENARIOS: Mapping[str, Callable[[Asked], Row]] = {
    "answered": _answered,
    "left in the queue": lambda asked: _left(asked, names.QUEUE_PHASE),
    "left in prefill": lambda asked: _left(asked, names.PREFILL_PHASE),
    "left in decode": lambda asked: _left(asked, names.DECODE_PHASE),
    "reads too slowly": _dropped,
    "left while rendering": _left_rendering,
    "left in the edge's queue": _left_waiting,
    "left in the body": lambda asked: http(asked, None, failed=_GONE_HTTP),
    "deadline in the queue": _late(names.QUEUE_PHASE),
    "deadline in prefill": _late(names.PREFILL_PHASE),
    "deadline in decode": _late(names.DECODE_PHASE),
    "deadline of rendering": _rendered_late,
    "no key": _refused(401, "invalid_api_key"),
    "no such url": _refused(404, "not_found"),
    "no such model": _refused(404, "model_not_found"),
    "bad field": _refused(400, "invalid_request"),
    "too many requests": _refused_model(429, "rate_limited"),
    "edge is full": _refused_model(503, "overloaded"),
    "no worker": _refused_model(503, "no_worker_available"),
    "prompt is too long": _refused_render(400, "context_length_exceeded", "OUT_OF_RANGE"),
    "tokenizer is lost": _tokenizer_lost,
    "rendered elsewhere": _rendered_elsewhere,
    "worker is full": _refused_generate(503, "overloaded", "RESOURCE_EXHAUSTED"),
    "moved to another worker": _moved,
    "engine fails": _engine_failed,
    "lost before the first token": _retried,
    "lost amid the answer": _retried,
    "ended by a loss": _ended_by_loss,
}
"""By name, what becomes of a request."""


def direct_generate(asked: Asked, *parts: Row, failed: Failed | None = None) -> Row:
    """A worker's span for a caller of its own, without an edge."""
    server = generate(asked, *parts, failed=failed).children[0]
    return replace(server, outlives_parent=False)


def direct_render(failed: Failed | None = None) -> Row:
    """A tokenizer's span for a caller of its own, without an edge."""
    row = render(failed).children[0]
    return replace(row, attributes={**row.attributes})

"""What surrounds every handler: the error boundary, the counts and the request's log line."""

import asyncio
import time

import structlog
from aiohttp import hdrs, web
from aiohttp.typedefs import Handler, Middleware

from edge.authentication import PROBE_PATHS
from edge.client_loss import client_loss
from edge.http_spans import HttpSpans, method_of, route_of
from edge.metrics import EdgeMetrics
from edge.protocol import EdgeProtocol
from edge.replies import error_reply, unknown_url
from edge.request_outcome import CLIENT_GONE_STATUS, RequestOutcome
from edge.request_scope import RequestScope, scope_of
from edge.service_state import ServiceState
from headrace.common.v1 import errors_pb2
from headrace.rpc.errors import ServiceError

_log = structlog.get_logger()


def boundary(metrics: EdgeMetrics, state: ServiceState, spans: HttpSpans) -> Middleware:
    """The middleware: every failure becomes a response or an error frame, and is counted."""

    @web.middleware
    async def handle(request: web.Request, handler: Handler) -> web.StreamResponse:
        scope = scope_of(request)
        spans.begin(request, scope)
        status = CLIENT_GONE_STATUS
        state.enter(scope)
        try:
            response = await _respond(request, handler, scope)
            # Here and not by aiohttp afterwards: what is told of the request includes its last
            # byte, and a drain waits for it.
            await response.prepare(request)
            await response.write_eof()
            status = response.status
            if state.is_leaving and not _is_next_promised(request, response):
                # Its head may have gone out before, and the client may want to go on here.
                response.force_close()
            return response
        finally:
            state.leave(scope)
            outcome = _outcome(request, scope, status)
            spans.end(scope, outcome.reason)
            metrics.ended(scope, outcome)
            _log_line(scope, outcome)

    return handle


def _is_next_promised(request: web.Request, response: web.StreamResponse) -> bool:
    """Whether the client has sent its next request already, and was not told of a close."""
    protocol = request.protocol
    has_next = isinstance(protocol, EdgeProtocol) and protocol.has_waiting
    return has_next and response.headers.get(hdrs.CONNECTION) != "close"


def _outcome(request: web.Request, scope: RequestScope, status: int) -> RequestOutcome:
    route = route_of(request)
    return RequestOutcome(
        method_of(request),
        route,
        status,
        _reason(request, scope, status),
        time.monotonic() - scope.began,
        route in PROBE_PATHS,
    )


def _reason(request: web.Request, scope: RequestScope, status: int) -> str | None:
    """Why the request failed, if it did; of a client that is gone whether it was dropped."""
    if scope.failure is not None:
        return scope.failure.label
    return client_loss(request).label if status == CLIENT_GONE_STATUS else None


async def _respond(
    request: web.Request, handler: Handler, scope: RequestScope
) -> web.StreamResponse:
    if scope.refusal is not None:
        return await _fail(request, scope, scope.refusal)
    try:
        return await handler(request)
    except (asyncio.CancelledError, ConnectionError):
        raise
    except ServiceError as error:
        return await _fail(request, scope, error)
    except web.HTTPNotFound:
        # What the catch-all route does not match: no path at all, or one with a line break in it.
        return await _fail(request, scope, unknown_url(request))
    except Exception as error:  # noqa: BLE001 (the boundary: a bug must not end quietly)
        _log.exception("request_crashed", request_id=scope.request_id, error=type(error).__name__)
        failure = ServiceError(
            errors_pb2.ERROR_REASON_ENGINE_FAILURE,
            "The server had an error while processing your request.",
        )
        return await _fail(request, scope, failure)


async def _fail(
    request: web.Request, scope: RequestScope, error: ServiceError
) -> web.StreamResponse:
    scope.failure = error
    if scope.stream is not None and scope.stream.is_open:
        return await scope.stream.end_with_error(error)
    return error_reply(request, error)


def _log_line(scope: RequestScope, outcome: RequestOutcome) -> None:
    # Probes come every few seconds and say nothing.
    log = _log.debug if outcome.is_probe and outcome.status < 500 else _log.info
    log(
        "request_served",
        request_id=scope.request_id,
        trace_id=scope.trace.trace_id,
        tenant=scope.caller.tenant,
        key_id=scope.caller.key_id,
        method=outcome.method,
        route=outcome.route,
        status=outcome.status,
        reason=outcome.reason,
        profile=scope.profile,
        model=scope.model,
        stream=scope.is_stream,
        prompt_tokens=scope.prompt_tokens,
        cached_prompt_tokens=scope.cached_prompt_tokens,
        completion_tokens=scope.completion_tokens,
        seconds=round(outcome.seconds, 6),
        **_answer_fields(scope),
        **scope.labels,
    )


def _answer_fields(scope: RequestScope) -> dict[str, object]:
    """How the answer went, as far as it came."""
    report = scope.answer
    seconds = {
        "ttft_seconds": report.first_text_seconds(scope.began),
        "admission_seconds": report.admission_seconds,
        "render_seconds": report.render_seconds,
    }
    found: dict[str, object] = {
        name: round(value, 6) for name, value in seconds.items() if value is not None
    }
    if report.timeline.attempts:
        found["attempts"] = report.timeline.attempts
        found["finish_reasons"] = list(report.finish_reasons)
    return found

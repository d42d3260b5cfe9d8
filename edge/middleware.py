"""What surrounds every handler: the error boundary, the counts and the request's log line."""

import asyncio
import time

import structlog
from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from edge.authentication import PROBE_PATHS
from edge.metrics import EdgeMetrics
from edge.replies import error_reply, unknown_url
from edge.request_scope import RequestScope, scope_of
from edge.service_state import ServiceState
from headrace.common.v1 import errors_pb2
from headrace.rpc.errors import ServiceError
from headrace.telemetry.trace_context import TraceContext, read_trace_context

CLIENT_GONE_STATUS = 499
_log = structlog.get_logger()


def boundary(metrics: EdgeMetrics, state: ServiceState) -> Middleware:
    """The middleware: every failure becomes a response or an error frame, and is counted."""

    @web.middleware
    async def handle(request: web.Request, handler: Handler) -> web.StreamResponse:
        scope = scope_of(request)
        scope.trace = _trace_context(request)
        started = time.monotonic()
        status = CLIENT_GONE_STATUS
        state.enter(scope)
        try:
            response = await _respond(request, handler, scope)
            status = response.status
            return response
        finally:
            state.leave(scope)
            _record(request, scope, metrics, status, time.monotonic() - started)

    return handle


def _trace_context(request: web.Request) -> TraceContext:
    headers = request.headers
    return read_trace_context(headers.getall("traceparent", ()), headers.getall("tracestate", ()))


async def _respond(
    request: web.Request, handler: Handler, scope: RequestScope
) -> web.StreamResponse:
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


def _record(
    request: web.Request, scope: RequestScope, metrics: EdgeMetrics, status: int, seconds: float
) -> None:
    resource = request.match_info.route.resource
    route = resource.canonical if resource is not None else "unknown"
    metrics.requests.labels(route, str(status)).inc()
    reason = None if scope.failure is None else scope.failure.label
    if reason is not None:
        metrics.failures.labels(reason).inc()
    # Probes come every few seconds and say nothing.
    log = _log.debug if route in PROBE_PATHS and status < 500 else _log.info
    log(
        "request_served",
        request_id=scope.request_id,
        trace_id=scope.trace.trace_id,
        tenant=scope.caller.tenant,
        key_id=scope.caller.key_id,
        method=request.method,
        route=route,
        status=status,
        reason=reason,
        profile=scope.profile,
        model=scope.model,
        stream=scope.is_stream,
        prompt_tokens=scope.prompt_tokens,
        cached_prompt_tokens=scope.cached_prompt_tokens,
        completion_tokens=scope.completion_tokens,
        seconds=round(seconds, 6),
        **scope.labels,
    )

"""The server span of each HTTP request, from its head's arrival to its last byte; not of probes."""

from aiohttp import web
from aiohttp.http import HttpVersion11

from edge.authentication import PROBE_PATHS
from edge.request_scope import RequestScope
from headrace.telemetry import names
from headrace.telemetry.spans import Attributes, Span, SpanKind, Tracing
from headrace.telemetry.trace_context import TraceContext, read_trace_context

_METHODS = frozenset(
    ("CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "TRACE")
)
_OTHER_METHOD = "_OTHER"
_MAX_CHARACTERS = 256
_UNKNOWN_ROUTE = "unknown"


def route_of(request: web.Request) -> str:
    """The route's pattern: one of few, whatever is asked for."""
    resource = request.match_info.route.resource
    return resource.canonical if resource is not None else _UNKNOWN_ROUTE


def method_of(request: web.Request) -> str:
    """The method, as the conventions bound it."""
    return request.method if request.method in _METHODS else _OTHER_METHOD


class HttpSpans:
    """Begins a request's span and ends it; the scope keeps it."""

    def __init__(self, tracing: Tracing) -> None:
        self._tracing = tracing

    def begin(self, request: web.Request, scope: RequestScope) -> None:
        """The scope's trace becomes the span's; for probes it stays the caller's."""
        scope.trace = _caller_context(request)
        route = route_of(request)
        if route in PROBE_PATHS:
            return
        method = method_of(request)
        span = self._tracing.begin(
            f"{'HTTP' if method == _OTHER_METHOD else method} {route}",
            SpanKind.SERVER,
            scope.trace,
            at_ns=self._tracing.clock.epoch_ns(scope.began),
        )
        scope.span, scope.trace = span, span.context
        if span.is_recording:
            span.set(_request_attributes(request, method, route))

    def end(self, scope: RequestScope, reason: str | None) -> None:
        """The last byte is out, or nobody waits for it; `reason` is why it failed, if it did."""
        span = scope.span
        if span is None:
            return
        if span.is_recording:
            span.set(_answer_attributes(scope))
            if reason is not None:
                _fail(span, scope, reason)
        span.end()


def _caller_context(request: web.Request) -> TraceContext:
    headers = request.headers
    return read_trace_context(headers.getall("traceparent", ()), headers.getall("tracestate", ()))


def _request_attributes(request: web.Request, method: str, route: str) -> Attributes:
    found: dict[str, str | int] = {
        names.HTTP_METHOD: method,
        names.HTTP_ROUTE: route,
        names.URL_PATH: request.rel_url.raw_path[:_MAX_CHARACTERS],
        names.URL_SCHEME: request.scheme,
        names.PROTOCOL_VERSION: "1.1" if request.version >= HttpVersion11 else "1.0",
        **_server_attributes(request),
    }
    if request.remote:
        found[names.CLIENT_ADDRESS] = request.remote
    if agent := request.headers.get("User-Agent"):
        found[names.USER_AGENT] = agent[:_MAX_CHARACTERS]
    return found


def _server_attributes(request: web.Request) -> dict[str, str | int]:
    """Host and port as the client called them; none where its Host header names no host."""
    try:
        host, port = request.url.host, request.url.port
    except ValueError:
        return {}
    found: dict[str, str | int] = {names.SERVER_ADDRESS: (host or "")[:_MAX_CHARACTERS]}
    if port is not None:
        found[names.SERVER_PORT] = port
    return found


def _answer_attributes(scope: RequestScope) -> Attributes:
    """No status where none was sent: the client left before that."""
    found: dict[str, str | int] = {names.REQUEST_ID: scope.request_id}
    if scope.sent_status is not None:
        found[names.HTTP_STATUS] = scope.sent_status
    if scope.caller.tenant:
        found[names.TENANT] = scope.caller.tenant
    if scope.profile is not None:
        found[names.PROFILE] = scope.profile
    return found


def _fail(span: Span, scope: RequestScope, reason: str) -> None:
    """An error of the server's is the span's; one of the client's, or its leaving, is told alone.

    An answer that began well and ended with an error frame is the server's.
    """
    failure, status = scope.failure, scope.sent_status
    if failure is None or (status is not None and 400 <= status < 500):
        span.set({names.ERROR_TYPE: reason})
    else:
        span.fail(reason)

"""The application: which path and method goes to which handler.

Every path and method ends in one of ours, unknown ones too, so that each answer is OpenAI's.
"""

import time
from collections.abc import Awaitable, Callable, Mapping

from aiohttp import HttpVersion11, hdrs, web

from edge.admission import Admission
from edge.authentication import authenticate, authenticated, key_watch
from edge.body import check_announced_length
from edge.chat import ChatHandler
from edge.http_spans import HttpSpans
from edge.metrics import EdgeMetrics
from edge.middleware import boundary
from edge.openai.models import FoundModel, ModelCatalog, build_model, build_models
from edge.openapi_route import OPENAPI_PATH, openapi_handler, openapi_surface
from edge.profiles import LENIENT_PREFIXES, STRICT_PREFIX, ProfileBook
from edge.rate_limits import rate_limit_headers
from edge.readiness import Readiness
from edge.replies import REQUEST_ID_HEADER, error_reply, json_reply, shown_path, unknown_url
from edge.request_scope import scope_of
from edge.service_state import ServiceState
from edge.settings import EdgeSettings
from headrace.access.key_ring import KeyRing, open_key_ring
from headrace.client.answers import ChatBackend
from headrace.common.v1 import errors_pb2
from headrace.rpc.call_metadata import TRACEPARENT
from headrace.rpc.errors import ServiceError
from headrace.telemetry.service import Telemetry

PREFIXES = (STRICT_PREFIX, *LENIENT_PREFIXES)
"""What the paths of OpenAI's wire begin with; the profiles depend on it, the handlers do not."""
CHAT_PATH = "/chat/completions"
_OPENAI_VERSION = "2020-10-01"
"""What OpenAI's own answers say: its API has had one version."""
_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
_ExpectHandler = Callable[[web.Request], Awaitable[web.StreamResponse | None]]


def build_app(
    backend: ChatBackend,
    settings: EdgeSettings,
    state: ServiceState,
    readiness: Readiness,
    telemetry: Telemetry[EdgeMetrics],
) -> web.Application:
    """The application over a backend; bound to the running event loop."""
    profiles = ProfileBook(settings.profiles, settings.hosts)
    keys = open_key_ring(settings.keys, profiles.names)
    admission = Admission(settings.admission)
    metrics = telemetry.metrics
    metrics.watch_admission(
        num_running=lambda: admission.num_running,
        num_queued=lambda: admission.num_queued,
    )
    chat = ChatHandler(backend, settings, admission, telemetry, state)
    app = web.Application(
        middlewares=[boundary(metrics, state, HttpSpans(telemetry.tracing)), authenticated(keys)],
        # Bodies are bounded where they are read.
        client_max_size=0,
    )
    app.cleanup_ctx.append(key_watch(keys, settings.keys))
    app.on_response_prepare.append(_sign(state))
    catalog = ModelCatalog(settings.aliases)
    handlers: dict[tuple[str, str], _Handler] = {
        (hdrs.METH_GET, "/health"): _health,
        (hdrs.METH_GET, "/ready"): _readiness(readiness),
        (hdrs.METH_GET, "/metrics"): _metrics(metrics),
    }
    surface = openapi_surface(profiles, settings, PREFIXES, CHAT_PATH)
    handlers[hdrs.METH_GET, OPENAPI_PATH] = openapi_handler(surface)
    for prefix in PREFIXES:
        handlers[hdrs.METH_POST, prefix + CHAT_PATH] = chat.handle
        handlers[hdrs.METH_GET, f"{prefix}/models"] = _list_models(backend, catalog)
        handlers[hdrs.METH_GET, prefix + "/models/{name:.+}"] = _show_model(backend, catalog)
    _add_routes(app, handlers, _expect_continue(settings, keys))
    return app


def _add_routes(
    app: web.Application,
    handlers: Mapping[tuple[str, str], _Handler],
    expect_handler: _ExpectHandler,
) -> None:
    for (method, path), handler in handlers.items():
        resource = app.router.add_resource(path)
        allowed = [method, hdrs.METH_HEAD] if method == hdrs.METH_GET else [method]
        for name in allowed:
            resource.add_route(name, handler, expect_handler=expect_handler)
        refuse = _method_not_allowed(", ".join(allowed))
        resource.add_route(hdrs.METH_ANY, refuse, expect_handler=expect_handler)
    app.router.add_route(hdrs.METH_ANY, "/{path:.*}", _unknown_url, expect_handler=expect_handler)


def _sign(state: ServiceState) -> Callable[[web.Request, web.StreamResponse], Awaitable[None]]:
    """Headers that every response carries."""

    async def sign(request: web.Request, response: web.StreamResponse) -> None:
        scope = scope_of(request)
        scope.sent_status = response.status
        response.headers[REQUEST_ID_HEADER] = scope.request_id
        if scope.span is not None and scope.span.context.traceparent:
            response.headers[TRACEPARENT] = scope.span.context.traceparent
        milliseconds = round((time.monotonic() - scope.began) * 1000)
        response.headers["openai-processing-ms"] = str(milliseconds)
        response.headers["openai-version"] = _OPENAI_VERSION
        response.headers.update(rate_limit_headers(scope))
        response.headers[hdrs.SERVER] = "headrace"
        if state.is_leaving:
            response.headers[hdrs.CONNECTION] = "close"

    return sign


def _expect_continue(settings: EdgeSettings, keys: KeyRing | None) -> _ExpectHandler:
    """Answer `Expect: 100-continue`: ask for the body, or leave it to the boundary to refuse it."""

    async def expect(request: web.Request) -> web.StreamResponse | None:
        try:
            authenticate(request, keys)
            check_announced_length(request, settings.server)
        except ServiceError as error:
            scope_of(request).refusal = error
            return None
        expected = request.headers.get(hdrs.EXPECT, "").lower()
        if expected == "100-continue" and request.version >= HttpVersion11:
            await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            # An interim response is not the beginning of the final one.
            request.writer.output_size = 0
        return None

    return expect


def _method_not_allowed(allowed: str) -> _Handler:
    async def handle(request: web.Request) -> web.StreamResponse:
        error = ServiceError(
            errors_pb2.ERROR_REASON_METHOD_NOT_ALLOWED,
            f"Invalid method for URL ({request.method} {shown_path(request)}). "
            f"Only {allowed} is allowed here.",
        )
        return error_reply(request, error, {hdrs.ALLOW: allowed})

    return handle


async def _unknown_url(request: web.Request) -> web.StreamResponse:
    raise unknown_url(request)


async def _health(_request: web.Request) -> web.StreamResponse:
    return json_reply(b'{"status":"ok"}')


def _readiness(readiness: Readiness) -> _Handler:
    async def handle(_request: web.Request) -> web.StreamResponse:
        if readiness.is_leaving:
            raise ServiceError(errors_pb2.ERROR_REASON_DRAINING, "The server is shutting down.")
        if problem := readiness.problem:
            message = f"{problem[0].upper()}{problem[1:]}."
            raise ServiceError(errors_pb2.ERROR_REASON_NO_WORKER_AVAILABLE, message)
        return json_reply(b'{"status":"ready"}')

    return handle


def _metrics(metrics: EdgeMetrics) -> _Handler:
    async def handle(_request: web.Request) -> web.StreamResponse:
        return web.Response(
            body=metrics.render(),
            headers={hdrs.CONTENT_TYPE: "text/plain; version=0.0.4; charset=utf-8"},
        )

    return handle


def _list_models(backend: ChatBackend, catalog: ModelCatalog) -> _Handler:
    async def handle(request: web.Request) -> web.StreamResponse:
        return json_reply(build_models(catalog.list(backend.models, scope_of(request).caller)))

    return handle


def _show_model(backend: ChatBackend, catalog: ModelCatalog) -> _Handler:
    async def handle(request: web.Request) -> web.StreamResponse:
        name = request.match_info["name"]
        model = catalog.find(name, backend.models, scope_of(request).caller)
        return json_reply(build_model(FoundModel(name, model)))

    return handle

"""Who calls: the bearer key of a request, looked up before any handler runs.

Probes need no key. Everything else does where keys are configured, unknown paths and wrong methods
too: whoever has no key learns nothing but that.
"""

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager

import structlog
from aiohttp import hdrs, web
from aiohttp.typedefs import Handler, Middleware

from edge.request_scope import scope_of
from headrace.access.key_ring import KeyRing, watched
from headrace.access.refusals import incorrect_key, missing_key
from headrace.access.settings import KeysSettings
from headrace.common.v1 import errors_pb2
from headrace.rpc.bearer import bearer_key
from headrace.rpc.errors import ServiceError

PROBE_PATHS = frozenset(("/health", "/ready", "/metrics"))
_log = structlog.get_logger()
_WHERE = "an Authorization header using Bearer auth (i.e. Authorization: Bearer YOUR_KEY)"


def authenticated(keys: KeyRing | None) -> Middleware:
    """The middleware: the request's scope knows its caller, or the request is refused."""

    @web.middleware
    async def handle(request: web.Request, handler: Handler) -> web.StreamResponse:
        authenticate(request, keys)
        return await handler(request)

    return handle


def authenticate(request: web.Request, keys: KeyRing | None) -> None:
    """Tell the scope who calls. Raises ServiceError: invalid_api_key."""
    if keys is None or request.path in PROBE_PATHS:
        return
    values = request.headers.getall(hdrs.AUTHORIZATION, ())
    # Of two, somebody in between may have looked at the other.
    key = bearer_key(values[0]) if len(values) == 1 else ""
    if not key:
        raise missing_key(_WHERE)
    holder = keys.find(key)
    if holder is None:
        raise incorrect_key(key)
    scope_of(request).holder = holder


@contextmanager
def own_key_refused() -> Iterator[None]:
    """A service that does not know this edge's key is no fault of whoever asked the edge."""
    try:
        yield
    except ServiceError as error:
        if error.reason != errors_pb2.ERROR_REASON_INVALID_API_KEY:
            raise
        _log.error("own_key_refused", problem=error.message)
        raise ServiceError(
            errors_pb2.ERROR_REASON_NO_WORKER_AVAILABLE,
            "The services behind this server do not know its key.",
        ) from error


def key_watch(
    keys: KeyRing | None, settings: KeysSettings
) -> Callable[[web.Application], AsyncIterator[None]]:
    """Follow the key file for as long as the application lives."""

    async def follow(_app: web.Application) -> AsyncIterator[None]:
        async with watched(keys, settings):
            yield

    return follow

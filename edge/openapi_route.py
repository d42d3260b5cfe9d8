"""GET /openapi.json: the document of what this edge serves, built once at its start."""

from collections.abc import Awaitable, Callable, Collection
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, version

from aiohttp import hdrs, web

from edge.openai.openapi import Surface, build_openapi
from edge.profiles import ProfileBook
from edge.replies import json_reply
from edge.settings import EdgeSettings

OPENAPI_PATH = "/openapi.json"
_UNKNOWN_VERSION = "0"


def openapi_surface(
    profiles: ProfileBook, settings: EdgeSettings, prefixes: Collection[str], chat_path: str
) -> Surface:
    """What the document is of."""
    return Surface(
        mounts={
            prefix: profiles.choose(None, "", None, prefix + chat_path)[0] for prefix in prefixes
        },
        profiles=profiles.profiles,
        limits=settings.limits,
        needs_key=settings.keys.file is not None,
        version=_version(),
    )


def openapi_handler(surface: Surface) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    """Serves the document; a client that has it already is told so."""
    body = build_openapi(surface)
    tag = f'"{sha256(body).hexdigest()[:32]}"'
    headers: dict[str, str] = {hdrs.ETAG: tag, hdrs.CACHE_CONTROL: "no-cache"}

    async def handle(request: web.Request) -> web.StreamResponse:
        if any(known.value == tag.strip('"') for known in request.if_none_match or ()):
            return web.Response(status=304, headers=headers)
        return json_reply(body, headers=headers)

    return handle


def _version() -> str:
    """The installed package's, as far as it is installed."""
    try:
        return version("headrace")
    except PackageNotFoundError:
        return _UNKNOWN_VERSION

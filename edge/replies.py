"""Responses that are not streams: JSON bytes, and the one renderer of errors."""

from collections.abc import Mapping

from aiohttp import web

from edge.openai.errors import error_body, error_headers
from edge.request_scope import scope_of
from headrace.common.v1 import errors_pb2
from headrace.rpc.errors import ServiceError

REQUEST_ID_HEADER = "x-request-id"
_SHOWN_PATH_CHARACTERS = 200
# The rest of such a request's body is not worth waiting for.
_CLOSING_STATUSES = frozenset((408, 413))


def json_reply(
    body: bytes, *, status: int = 200, headers: Mapping[str, str] | None = None
) -> web.Response:
    """A response with a JSON body."""
    return web.Response(body=body, status=status, headers=headers, content_type="application/json")


def error_reply(
    request: web.BaseRequest, error: ServiceError, headers: Mapping[str, str] | None = None
) -> web.Response:
    """The response that a failure becomes, on every path and method."""
    scope = scope_of(request)
    scope.failure = error
    status = error.row.http_status
    response = json_reply(
        error_body(error),
        status=status,
        headers={
            **error_headers(error),
            **(headers or {}),
            REQUEST_ID_HEADER: scope.request_id,
        },
    )
    if status in _CLOSING_STATUSES:
        response.force_close()
    return response


def unknown_url(request: web.BaseRequest) -> ServiceError:
    """The failure of a request that no route takes."""
    return ServiceError(
        errors_pb2.ERROR_REASON_NOT_FOUND,
        f"Unknown request URL: {request.method} {shown_path(request)}. "
        "Please check the URL for typos.",
        openai_code="unknown_url",
    )


def shown_path(request: web.BaseRequest) -> str:
    """The path as messages quote it: its beginning."""
    return request.rel_url.raw_path[:_SHOWN_PATH_CHARACTERS]

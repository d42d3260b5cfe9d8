"""Reading a request's body: bounded in bytes and in time."""

import asyncio

from aiohttp import hdrs, web
from aiohttp.http_exceptions import HttpProcessingError

from edge.body_budget import BodyShare
from edge.content_encoding import PIECE_BYTES, body_decoder
from edge.settings import ServerSettings
from headrace.common.v1 import errors_pb2
from headrace.rpc.errors import ServiceError


def check_announced_length(request: web.BaseRequest, settings: ServerSettings) -> None:
    """Raise ServiceError (request_too_large) for a Content-Length above the bound."""
    length = request.content_length
    if length is not None and length > settings.max_body_bytes:
        raise _too_large(settings, f"{length} bytes were announced")


async def read_body(request: web.BaseRequest, settings: ServerSettings, share: BodyShare) -> bytes:
    """The whole body, decompressed; `share` counts it as it arrives.

    Raises ServiceError: request_too_large, request_timeout, overloaded, or invalid_request for a
    body that breaks its own framing or compression.
    """
    check_announced_length(request, settings)
    decoder = body_decoder(request.headers.get(hdrs.CONTENT_ENCODING, ""))
    body = bytearray()
    try:
        async with asyncio.timeout(settings.body_timeout_seconds):
            while chunk := await request.content.readany():
                for piece in decoder.pieces(chunk):
                    body += piece
                    if len(body) > settings.max_body_bytes:
                        raise _too_large(settings, "more bytes were sent")
                    share.add(len(piece))
                    if len(body) > PIECE_BYTES:
                        # What is there already does not wait: others must have their turn.
                        await asyncio.sleep(0)
        decoder.finish()
        return bytes(body)
    except TimeoutError:
        raise ServiceError(
            errors_pb2.ERROR_REASON_REQUEST_TIMEOUT,
            "The request's body did not arrive within "
            f"{settings.body_timeout_seconds:g} seconds ({len(body)} bytes did).",
        ) from None
    except web.RequestPayloadError as error:
        raise ServiceError(
            errors_pb2.ERROR_REASON_INVALID_REQUEST,
            f"The request's body could not be read: {_cause(error)}.",
        ) from error
    finally:
        # An error's traceback would keep it for as long as its response takes.
        body.clear()


def _cause(error: web.RequestPayloadError) -> str:
    """What was wrong, without the bytes that may be quoted behind a line's end."""
    cause = error.__cause__
    message = cause.message if isinstance(cause, HttpProcessingError) else str(error)
    return (message.splitlines() or ["it is malformed"])[0].rstrip(".")


def _too_large(settings: ServerSettings, detail: str) -> ServiceError:
    return ServiceError(
        errors_pb2.ERROR_REASON_REQUEST_TOO_LARGE,
        f"The request's body is too large: at most {settings.max_body_bytes} bytes are taken, "
        f"but {detail}.",
    )

"""A failure in OpenAI's form: the envelope, the headers that belong to it, and the SSE frame."""

from math import ceil

import orjson

from headrace.rpc.errors import ServiceError

_DEFAULT_RETRY_SECONDS = 1


def error_body(error: ServiceError) -> bytes:
    """The JSON envelope: message, type, param and code, always all four."""
    row = error.row
    code = row.openai_code if error.openai_code is None else error.openai_code or None
    return orjson.dumps(
        {
            "error": {
                "message": error.message,
                "type": error.openai_type or row.openai_type,
                "param": error.param,
                "code": code,
            }
        }
    )


def error_headers(error: ServiceError) -> dict[str, str]:
    """Headers by which a client decides whether to try again, or with a key.

    Retry-After is whole seconds, rounded up; a limit that knows better says it in milliseconds too.
    """
    status = error.row.http_status
    if not error.row.retryable or error.is_final:
        challenge = {"WWW-Authenticate": "Bearer"} if status == 401 else {}
        return {"x-should-retry": "false", **challenge}
    if status not in (429, 503):
        return {}
    seconds = error.retry_after_seconds or _DEFAULT_RETRY_SECONDS
    exact = {"retry-after-ms": str(ceil(seconds * 1000))} if status == 429 else {}
    return {"Retry-After": str(max(1, ceil(seconds))), **exact}


def error_frame(error: ServiceError) -> bytes:
    """The event that ends a stream that failed after its headers."""
    return b"data: " + error_body(error) + b"\n\n"

"""A failure in OpenAI's form: the envelope, the headers that belong to it, and the SSE frame."""

from math import ceil

import orjson

from headrace.rpc.errors import ServiceError

_DEFAULT_RETRY_SECONDS = 1


def error_body(error: ServiceError) -> bytes:
    """The JSON envelope: message, type, param and code, always all four."""
    row = error.row
    code = row.openai_code if error.openai_code is None else error.openai_code
    return orjson.dumps(
        {
            "error": {
                "message": error.message,
                "type": row.openai_type,
                "param": error.param,
                "code": code,
            }
        }
    )


def error_headers(error: ServiceError) -> dict[str, str]:
    """Headers by which a client decides whether to try again."""
    if not error.row.retryable:
        return {"x-should-retry": "false"}
    if error.row.http_status not in (429, 503):
        return {}
    seconds = error.retry_after_seconds
    return {"Retry-After": str(max(1, ceil(seconds or _DEFAULT_RETRY_SECONDS)))}


def error_frame(error: ServiceError) -> bytes:
    """The event that ends a stream that failed after its headers."""
    return b"data: " + error_body(error) + b"\n\n"

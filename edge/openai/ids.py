"""Identifiers that the edge mints; a client's own are never taken."""

from uuid import uuid4


def mint_request_id() -> str:
    """The id of one HTTP request, for `x-request-id`, logs and the services behind."""
    return f"req_{uuid4().hex}"


def mint_completion_id() -> str:
    """The id of one completion, the same in all its chunks."""
    return f"chatcmpl-{uuid4().hex}"

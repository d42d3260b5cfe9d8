"""A request's body as JSON: bounded in structure before it is parsed."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import orjson

from edge.openai import checks, problems

_MAX_MARKS = 250_000
_MAX_COMMAS = 500_000


def parse_document(body: bytes) -> dict[str, Any]:
    """The object that a body is. Raises ServiceError (invalid_request) without a param."""
    _check_structure(body)
    try:
        with _no_collection():
            document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        # `doc` of the error is the whole body; only its message may leave.
        raise problems.refused(
            f"We could not parse the JSON body of your request: {error.msg} "
            f"(line {error.lineno}, column {error.colno}).",
            None,
        ) from None
    if not isinstance(document, dict):
        raise problems.refused(
            "We could not parse the JSON body of your request: it must be an object.", None
        )
    if len(document) > checks.MAX_PROPERTIES:
        raise problems.refused(
            f"The JSON body of your request has {len(document)} fields; at most "
            f"{checks.MAX_PROPERTIES} are allowed.",
            None,
        )
    return document


@contextmanager
def _no_collection() -> Iterator[None]:
    """Without the garbage collector, which walks through a growing document again and again."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _check_structure(body: bytes) -> None:
    """Refuse a body that is so much structure that parsing it would hold up everybody else.

    Arrays, objects and keys cost up to a microsecond each, and many times the memory of their
    bytes; plain entries less, but may be as small as two bytes. Those inside strings count as well:
    no context holds a text of so many.
    """
    marks = body.count(b"[") + body.count(b"{") + body.count(b":")
    _require_few("opening brackets and colons", marks, _MAX_MARKS)
    _require_few("commas", body.count(b","), _MAX_COMMAS)


def _require_few(what: str, count: int, most: int) -> None:
    if count > most:
        raise problems.refused(
            f"The JSON body of your request has {count} {what}; at most {most} are allowed.", None
        )

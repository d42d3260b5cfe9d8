"""instructor over OpenAI's package: objects only, by a forced function or by response_format."""

import sys
from typing import Any

import instructor
import openai
from instructor.core.exceptions import InstructorRetryException

from tests.clients.python.tasks import (
    ASKED,
    MAX_TOKENS,
    UNKNOWN_MODEL,
    WRONG_KEY,
    Report,
    SetAlarm,
    Told,
    failure,
    tell,
)

BASE_URL, KEY, MODEL = sys.argv[1:]


def _create(mode: instructor.Mode, key: str = KEY, **changes: Any) -> Any:
    client = instructor.from_openai(
        openai.OpenAI(base_url=BASE_URL, api_key=key, max_retries=0), mode=mode
    )
    options: dict[str, Any] = {"model": MODEL, "messages": ASKED, "response_model": Report}
    options |= {"temperature": 0, "max_tokens": MAX_TOKENS, "max_retries": 0}
    method = client.create_partial if changes.pop("partial", False) else client.create
    return method(**{**options, **changes})


def stream() -> Told:
    """The object as it grows, by response_format."""
    partials = list(_create(instructor.Mode.JSON_SCHEMA, partial=True))
    return {"partials": [each.model_dump() for each in partials]}


def streamed_call() -> Told:
    """The object as it grows, by a forced function."""
    partials = list(_create(instructor.Mode.TOOLS, partial=True))
    return {"partials": [each.model_dump() for each in partials]}


def chosen() -> Told:
    """A function by its name, which is how the package forces one."""
    return _create(instructor.Mode.TOOLS, response_model=SetAlarm).model_dump()


def structured() -> Told:
    """By response_format with the schema; the raw answer has the usage."""
    report = _create(instructor.Mode.JSON_SCHEMA)
    return {**report.model_dump(), "usage": report._raw_response.usage.model_dump()}


def _cause(mode: instructor.Mode, expected: type[Exception], **changes: Any) -> Told:
    """What lies under the client's own exception, and under its retries'."""

    def attempt() -> None:
        try:
            _create(mode, **changes)
        except InstructorRetryException as error:
            cause: BaseException = error
            while cause.__cause__ is not None:
                cause = cause.__cause__
            raise cause from None

    return failure(attempt, expected, "status_code", "param", "code", "type")


def errors() -> Told:
    """The exceptions of OpenAI's package, each under the client's own."""
    mode = instructor.Mode.TOOLS
    return {
        "wrong_key": _cause(mode, openai.AuthenticationError, key=WRONG_KEY),
        "unknown_model": _cause(mode, openai.NotFoundError, model=UNKNOWN_MODEL),
        "bad_value": _cause(mode, openai.BadRequestError, temperature=3),
    }


tell(
    ("instructor", "openai"),
    {
        "stream": stream,
        "streamed_call": streamed_call,
        "chosen": chosen,
        "structured": structured,
        "errors": errors,
    },
)

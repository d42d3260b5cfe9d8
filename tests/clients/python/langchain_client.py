"""langchain-openai."""

import sys
from typing import Any

import openai
from langchain_core.exceptions import ModelAuthenticationError, ModelNotFoundError
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langchain_openai import ChatOpenAI

from tests.clients.python.tasks import (
    MAX_TOKENS,
    QUESTION,
    STORY,
    STORY_TOKENS,
    TOOL_RESULT,
    TOOLS,
    UNKNOWN_MODEL,
    WRONG_KEY,
    Report,
    Told,
    call,
    failure,
    tell,
)

BASE_URL, KEY, MODEL = sys.argv[1:]


def _model(**changes: Any) -> ChatOpenAI:
    options: dict[str, Any] = {"model": MODEL, "base_url": BASE_URL, "api_key": KEY}
    options |= {"temperature": 0, "max_tokens": MAX_TOKENS, "max_retries": 0}
    return ChatOpenAI(**{**options, **changes})


def stream() -> Told:
    """Message chunks, which add up to the whole message."""
    chunks = list(_model(max_tokens=STORY_TOKENS, stream_usage=True).stream(STORY))
    whole = chunks[0]
    for chunk in chunks[1:]:
        whole += chunk
    usage = whole.usage_metadata or {}
    return {
        "texts": [str(chunk.content) for chunk in chunks if chunk.content],
        "finish": whole.response_metadata["finish_reason"],
        "prompt_tokens": usage.get("input_tokens"),
        "completion_tokens": usage.get("output_tokens"),
    }


def _calls(message: AIMessage) -> Told:
    return [call(each["name"], each["args"], each["id"]) for each in message.tool_calls]


def _bound(choice: str) -> Any:
    return _model().bind_tools(TOOLS, tool_choice=choice, parallel_tool_calls=False)


def _forced(choice: str) -> Told:
    message = _bound(choice).invoke(QUESTION)
    return {
        "calls": _calls(message),
        "finish": message.response_metadata["finish_reason"],
        "content": message.content or None,
    }


def required() -> Told:
    """Some function, whichever."""
    return _forced("required")


def chosen() -> Told:
    """One function by its name."""
    return _forced("set_alarm")


def streamed_call() -> Told:
    """A forced call in chunks, which add up to the call."""
    chunks = list(_bound("required").stream(QUESTION))
    whole = chunks[0]
    for chunk in chunks[1:]:
        whole += chunk
    return {
        "calls": _calls(whole),
        "deltas": [each["args"] for chunk in chunks for each in chunk.tool_call_chunks],
        "finish": whole.response_metadata["finish_reason"],
    }


def structured() -> Told:
    """An object of a type of ours, by response_format."""
    return (
        _model().with_structured_output(Report, method="json_schema").invoke(QUESTION).model_dump()
    )


def structured_by_call() -> Told:
    """The same, by the one function that may be called."""
    bound = _model().with_structured_output(Report, method="function_calling")
    return bound.invoke(QUESTION).model_dump()


def loop() -> Told:
    """A forced call, its result, and what the model makes of it."""
    question = HumanMessage(QUESTION)
    first = _bound("required").invoke([question])
    results = [ToolMessage(TOOL_RESULT, tool_call_id=each["id"]) for each in first.tool_calls]
    second = _bound("auto").invoke([question, first, *results])
    again = [each["name"] for each in [*second.tool_calls, *second.invalid_tool_calls]]
    return {"calls": _calls(first), "text": second.content, "again": again}


def errors() -> Told:
    """The exceptions by their types."""
    fields = ("status_code", "param", "code", "type")
    return {
        "wrong_key": failure(
            lambda: _model(api_key=WRONG_KEY).invoke(QUESTION), ModelAuthenticationError, *fields
        ),
        "unknown_model": failure(
            lambda: _model(model=UNKNOWN_MODEL).invoke(QUESTION), ModelNotFoundError, *fields
        ),
        "bad_value": failure(
            lambda: _model(temperature=3).invoke(QUESTION), openai.BadRequestError, *fields
        ),
    }


tell(
    ("langchain-openai", "langchain-core", "openai"),
    {
        "stream": stream,
        "required": required,
        "chosen": chosen,
        "streamed_call": streamed_call,
        "structured": structured,
        "structured_by_call": structured_by_call,
        "loop": loop,
        "errors": errors,
    },
)

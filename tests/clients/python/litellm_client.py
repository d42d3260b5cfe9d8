"""litellm, as a client."""

import sys
from typing import Any

import litellm

from tests.clients.python.tasks import (
    ASKED,
    MAX_TOKENS,
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
    named,
    tell,
)

BASE_URL, KEY, MODEL = sys.argv[1:]
litellm.suppress_debug_info = True


def _complete(**changes: Any) -> Any:
    options: dict[str, Any] = {"model": f"openai/{MODEL}", "api_base": BASE_URL, "api_key": KEY}
    options |= {"messages": ASKED, "temperature": 0, "max_tokens": MAX_TOKENS, "num_retries": 0}
    return litellm.completion(**{**options, **changes})


def stream() -> Told:
    """Text in chunks, which the package builds a whole answer from."""
    chunks = list(
        _complete(
            messages=STORY,
            max_tokens=STORY_TOKENS,
            stream=True,
            stream_options={"include_usage": True},
        )
    )
    whole = litellm.stream_chunk_builder(chunks, messages=STORY)
    texts = [choice.delta.content or "" for chunk in chunks for choice in chunk.choices]
    return {
        "texts": [text for text in texts if text],
        "finish": whole.choices[0].finish_reason,
        "prompt_tokens": whole.usage.prompt_tokens,
        "completion_tokens": whole.usage.completion_tokens,
    }


def _calls(message: Any) -> Told:
    return [
        call(each.function.name, each.function.arguments, each.id) for each in message.tool_calls
    ]


def _forced(choice: Any) -> Told:
    answer = _complete(tools=TOOLS, tool_choice=choice, parallel_tool_calls=False)
    return {
        "calls": _calls(answer.choices[0].message),
        "finish": answer.choices[0].finish_reason,
        "content": answer.choices[0].message.content,
    }


def required() -> Told:
    """Some function, whichever."""
    return _forced("required")


def chosen() -> Told:
    """One function by its name."""
    return _forced(named("set_alarm"))


def streamed_call() -> Told:
    """A forced call in chunks, which the package builds a whole answer from."""
    chunks = list(
        _complete(tools=TOOLS, tool_choice="required", parallel_tool_calls=False, stream=True)
    )
    whole = litellm.stream_chunk_builder(chunks, messages=ASKED)
    deltas = [
        each.function.arguments or ""
        for chunk in chunks
        for choice in chunk.choices
        for each in choice.delta.tool_calls or []
    ]
    return {
        "calls": _calls(whole.choices[0].message),
        "deltas": deltas,
        "finish": whole.choices[0].finish_reason,
    }


def structured() -> Told:
    """An object of a type of ours."""
    answer = _complete(response_format=Report)
    return Report.model_validate_json(answer.choices[0].message.content).model_dump()


def loop() -> Told:
    """A forced call, its result, and what the model makes of it."""
    first = _complete(tools=TOOLS, tool_choice="required", parallel_tool_calls=False)
    message = first.choices[0].message
    results = [
        {"role": "tool", "tool_call_id": each.id, "content": TOOL_RESULT}
        for each in message.tool_calls
    ]
    second = _complete(messages=[*ASKED, message, *results], tools=TOOLS)
    answer = second.choices[0].message
    return {
        "calls": _calls(message),
        "text": answer.content,
        "again": [each.function.name for each in answer.tool_calls or []],
    }


def errors() -> Told:
    """The exceptions by their types."""
    fields = ("status_code", "param", "code", "type")
    return {
        "wrong_key": failure(
            lambda: _complete(api_key=WRONG_KEY), litellm.AuthenticationError, *fields
        ),
        "unknown_model": failure(
            lambda: _complete(model=f"openai/{UNKNOWN_MODEL}"), litellm.NotFoundError, *fields
        ),
        "bad_value": failure(lambda: _complete(temperature=3), litellm.BadRequestError, *fields),
    }


tell(
    ("litellm", "openai"),
    {
        "stream": stream,
        "required": required,
        "chosen": chosen,
        "streamed_call": streamed_call,
        "structured": structured,
        "loop": loop,
        "errors": errors,
    },
)

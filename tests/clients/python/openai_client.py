"""OpenAI's own package."""

import sys
from typing import Any

import openai

from tests.clients.python.tasks import (
    ASKED,
    FUNCTIONS,
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
CLIENT = openai.OpenAI(base_url=BASE_URL, api_key=KEY, max_retries=0)
COMMON: dict[str, Any] = {"model": MODEL, "max_tokens": MAX_TOKENS, "temperature": 0}
ONE_CALL: dict[str, Any] = {**COMMON, "tools": TOOLS, "parallel_tool_calls": False}


def stream() -> Told:
    """Text in chunks, then the usage."""
    chunks = list(
        CLIENT.chat.completions.create(
            **{**COMMON, "max_tokens": STORY_TOKENS},
            messages=STORY,
            stream=True,
            stream_options={"include_usage": True},
        )
    )
    texts = [choice.delta.content or "" for chunk in chunks for choice in chunk.choices]
    usage = chunks[-1].usage
    return {
        "texts": [text for text in texts if text],
        "finish": [choice.finish_reason for chunk in chunks for choice in chunk.choices][-1],
        "prompt_tokens": usage and usage.prompt_tokens,
        "completion_tokens": usage and usage.completion_tokens,
    }


def _calls(message: Any) -> Told:
    return [
        call(each.function.name, each.function.arguments, each.id) for each in message.tool_calls
    ]


def _forced(choice: Any) -> Told:
    answer = CLIENT.chat.completions.create(**ONE_CALL, messages=ASKED, tool_choice=choice)
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
    """A forced call, gathered by the client's helper, which parses strict arguments itself."""
    tools = [openai.pydantic_function_tool(each, name=name) for name, each in FUNCTIONS.items()]
    with CLIENT.chat.completions.stream(
        **{**ONE_CALL, "tools": tools}, messages=ASKED, tool_choice="required"
    ) as events:
        deltas = [
            event.arguments_delta
            for event in events
            if event.type == "tool_calls.function.arguments.delta"
        ]
        choice = events.get_final_completion().choices[0]
    functions = [(each.function, each.id) for each in choice.message.tool_calls or []]
    return {
        "calls": [
            call(function.name, function.parsed_arguments.model_dump(), identity)
            for function, identity in functions
        ],
        "deltas": deltas,
        "finish": choice.finish_reason,
    }


def structured() -> Told:
    """An object of a type of ours."""
    answer = CLIENT.chat.completions.parse(**COMMON, messages=ASKED, response_format=Report)
    parsed = answer.choices[0].message.parsed
    return parsed and parsed.model_dump()


def loop() -> Told:
    """A forced call, its result, and what the model makes of it."""
    first = CLIENT.chat.completions.create(**ONE_CALL, messages=ASKED, tool_choice="required")
    message = first.choices[0].message
    results = [
        {"role": "tool", "tool_call_id": each.id, "content": TOOL_RESULT}
        for each in message.tool_calls or []
    ]
    messages = [*ASKED, message.model_dump(exclude_none=True), *results]
    second = CLIENT.chat.completions.create(**ONE_CALL, messages=messages)
    answer = second.choices[0].message
    return {
        "calls": _calls(message),
        "text": answer.content,
        "again": [each.function.name for each in answer.tool_calls or []],
    }


def errors() -> Told:
    """The exceptions by their types."""
    create = CLIENT.chat.completions.create
    stranger = CLIENT.with_options(api_key=WRONG_KEY).chat.completions.create
    fields = ("status_code", "param", "code", "type")
    return {
        "wrong_key": failure(
            lambda: stranger(**COMMON, messages=ASKED), openai.AuthenticationError, *fields
        ),
        "unknown_model": failure(
            lambda: create(model=UNKNOWN_MODEL, messages=ASKED), openai.NotFoundError, *fields
        ),
        "bad_value": failure(
            lambda: create(**{**COMMON, "temperature": 3}, messages=ASKED),
            openai.BadRequestError,
            *fields,
        ),
    }


tell(
    ("openai",),
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

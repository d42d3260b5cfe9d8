"""Answers with calls, played for a request: what is asked, and what the model says."""

from collections.abc import Callable, Mapping
from typing import Any

from headrace.client.answer_events import (
    AnswerEvent,
    CallArguments,
    CallBegin,
    CallEnd,
    ContentDelta,
    ReasoningDelta,
    TokenLogprob,
)
from tests.support.fake_backend import FakeGeneration

WEATHER: Mapping[str, Any] = {
    "name": "get_weather",
    "description": "Get the weather of a city.",
    "parameters": {
        "type": "object",
        "properties": {"city": {"type": "string"}},
        "required": ["city"],
        "additionalProperties": False,
    },
}
TIME: Mapping[str, Any] = {"name": "get_time"}
TOOLS = [{"type": "function", "function": function} for function in (WEATHER, TIME)]
NAMED = {"type": "function", "function": {"name": "get_weather"}}
_PIECES = ('{"', "city", '": "', "Oslo", '"}')
Play = Callable[[FakeGeneration], None]
Scene = tuple[Mapping[str, Any], Play]


def token(text: str) -> TokenLogprob:
    """A token and what it is told with."""
    return TokenLogprob(text.encode(), -0.25, ((text.encode(), -0.25),))


def say(generation: FakeGeneration, event: AnswerEvent, text: str, index: int = 0) -> None:
    """One event, and the token that it was read from where those are wanted."""
    wanted = () if generation.options.logprobs is None else (token(text),)
    generation.events(event, index=index, tokens=wanted)


def call_weather(generation: FakeGeneration, call: int = 0, index: int = 0) -> None:
    """A whole call, token by token."""
    say(generation, CallBegin(call, "get_weather"), "<tool_call>", index)
    for piece in _PIECES:
        say(generation, CallArguments(call, piece), piece, index)
    say(generation, CallEnd(call, is_complete=True), "</tool_call>", index)


def call_time(generation: FakeGeneration, call: int, index: int = 0) -> None:
    """A call of a function without parameters, all at once."""
    generation.events(
        CallBegin(call, "get_time"),
        CallArguments(call, "{}"),
        CallEnd(call, is_complete=True),
        index=index,
        tokens=() if generation.options.logprobs is None else (token("<get_time>"),),
    )


def one_call(generation: FakeGeneration) -> None:
    """A call and nothing else."""
    call_weather(generation)
    generation.finish()
    generation.done()


def thought_text_and_calls(generation: FakeGeneration) -> None:
    """All that an answer can say."""
    say(generation, ReasoningDelta("Two things."), "Two things.")
    say(generation, ContentDelta("Looking"), "Looking")
    say(generation, ContentDelta(" it up."), " it up.")
    call_weather(generation)
    call_time(generation, 1)
    generation.finish(reasoning=1)
    generation.done()


def two_outputs(generation: FakeGeneration) -> None:
    """The second one speaks first."""
    call_time(generation, 0, index=1)
    call_weather(generation, 0, index=0)
    call_time(generation, 1, index=0)
    generation.finish(1)
    generation.finish(0)
    generation.done()


def truncated(generation: FakeGeneration) -> None:
    """The limit falls within the second call."""
    call_time(generation, 0)
    say(generation, CallBegin(1, "get_weather"), "<tool_call>")
    say(generation, CallArguments(1, '{"city'), '{"city')
    say(generation, CallEnd(1, is_complete=False), "")
    generation.finish(reason="length")
    generation.done()


def text_only(generation: FakeGeneration) -> None:
    """Nothing is called."""
    say(generation, ContentDelta("No need."), "No need.")
    generation.finish()
    generation.done()


_USAGE = {"stream_options": {"include_usage": True}}
_LOGPROBS = {"logprobs": True, "top_logprobs": 1}
_CALLABLE = {"tools": TOOLS}
_OLDER = {"functions": [WEATHER, TIME]}
SCENES: Mapping[str, Scene] = {
    "one": (_CALLABLE, one_call),
    "required": ({**_CALLABLE, "tool_choice": "required"}, one_call),
    "named": ({**_CALLABLE, "tool_choice": NAMED}, one_call),
    "everything": ({**_CALLABLE, **_USAGE}, thought_text_and_calls),
    "two-outputs": ({**_CALLABLE, "n": 2}, two_outputs),
    "truncated": (_CALLABLE, truncated),
    "text": (_CALLABLE, text_only),
    "logprobs": ({**_CALLABLE, **_LOGPROBS}, thought_text_and_calls),
    "functions": (_OLDER, one_call),
    "functions-named": ({**_OLDER, "function_call": {"name": "get_weather"}}, one_call),
    "functions-text": (_OLDER, text_only),
}
FINISHES: Mapping[str, tuple[str, ...]] = {
    "one": ("tool_calls",),
    "required": ("tool_calls",),
    "named": ("stop",),
    "everything": ("tool_calls",),
    "two-outputs": ("tool_calls", "tool_calls"),
    "truncated": ("length",),
    "text": ("stop",),
    "logprobs": ("tool_calls",),
    "functions": ("function_call",),
    "functions-named": ("stop",),
    "functions-text": ("stop",),
}

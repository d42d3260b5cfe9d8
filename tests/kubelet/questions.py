"""What clients ask while pods come and go: some of all kinds, each with an answer of its own."""

from collections.abc import Sequence
from typing import Any

from tests.support.chat_client import Answer
from tests.support.crowd import gathered, streamed

_STORY = "A boat goes down the river, past the mill and the old bridge, to the harbour."
_PLACE = {
    "type": "object",
    "properties": {
        "place": {"type": "string", "maxLength": 80},
        "boats": {"type": "array", "items": {"type": "integer"}, "minItems": 4, "maxItems": 8},
        "is_old": {"type": "boolean"},
    },
    "required": ["place", "boats", "is_old"],
    "additionalProperties": False,
}
_LOOK = {
    "type": "function",
    "function": {
        "name": "look",
        "description": "Look at a place on the river.",
        "parameters": _PLACE,
        "strict": True,
    },
}
_SCHEMA = {"type": "json_schema", "json_schema": {"name": "place", "schema": _PLACE}}
_DRAWN = {"temperature": 0.8}
_KINDS: Sequence[dict[str, Any]] = (
    _DRAWN,
    {"temperature": 0},
    _DRAWN,
    {**_DRAWN, "response_format": _SCHEMA},
    _DRAWN,
    {**_DRAWN, "n": 2},
    _DRAWN,
    {**_DRAWN, "logprobs": True, "top_logprobs": 2},
    {**_DRAWN, "tools": [_LOOK], "tool_choice": "required"},
    {**_DRAWN, "stream": False, "stream_options": None},
)
"""Laid over a stream's body, with its seed and its text."""
_NUM_QUESTIONS = 2 * len(_KINDS)


def questions(max_tokens: int) -> list[dict[str, Any]]:
    """Bodies of different requests, twenty of them."""
    found = []
    for number in range(_NUM_QUESTIONS):
        body = streamed(f"{_STORY} Question {number}: what is there?", max_tokens, seed=number)
        found.append({**body, **_KINDS[number % len(_KINDS)]})
    return found


def plain_questions(max_tokens: int) -> list[dict[str, Any]]:
    """The same number of streams of text, drawn by a seed."""
    return [
        streamed(f"{_STORY} Question {n}: what is there?", max_tokens, seed=n, **_DRAWN)
        for n in range(_NUM_QUESTIONS)
    ]


async def undisturbed(address: str, bodies: Sequence[dict[str, Any]]) -> list[Answer]:
    """Each asked once where nothing happens; proves that each has an answer of its own."""
    async with gathered(lambda: [address], bodies) as crowd:
        crowd.stop_asking()
        await crowd.finish()
    answers = [own[0].answer for own in crowd.of_clients]
    assert [answer.body for answer in answers if not answer.is_complete] == []
    return answers


def shared_out(each: Sequence[Any], count: int) -> list[Any]:
    """`count` of them, in turns."""
    return [each[number % len(each)] for number in range(count)]

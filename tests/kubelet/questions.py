"""What clients ask while pods come and go: some of all kinds, each with an answer of its own."""

import itertools
from collections.abc import Sequence
from typing import Any

from tests.support.chat_client import Answer
from tests.support.crowd import gathered, streamed

_PEOPLE = ("a miller", "two ferrymen", "a lock keeper", "an otter", "the mayor's daughter")
_PLACES = ("by the river", "on the old bridge", "at the harbour", "below the weir")
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
    {**_DRAWN, "tools": [_LOOK], "tool_choice": "required", "parallel_tool_calls": False},
    {**_DRAWN, "stream": False, "stream_options": None},
)
"""Laid over a stream's body, with its seed and its text."""


def plain_questions(max_tokens: int, **fields: Any) -> list[dict[str, Any]]:
    """Twenty streams of text, drawn by a seed each, with `fields` beside."""
    fields = {**_DRAWN, **fields}
    return [
        streamed(f"Tell me a long story of {who} {where}.", max_tokens, seed=number, **fields)
        for number, (who, where) in enumerate(itertools.product(_PEOPLE, _PLACES))
    ]


def questions(max_tokens: int) -> list[dict[str, Any]]:
    """The same of all kinds, two each."""
    plain = plain_questions(max_tokens)
    return [{**body, **_KINDS[number % len(_KINDS)]} for number, body in enumerate(plain)]


async def undisturbed(address: str, bodies: Sequence[dict[str, Any]]) -> list[Answer]:
    """What each is answered where nothing happens."""
    async with gathered(lambda: [address], bodies) as crowd:
        crowd.stop_asking()
        await crowd.finish()
    answers = [own[0].answer for own in crowd.of_clients]
    assert [answer.body for answer in answers if not answer.is_complete] == []
    return answers


def shared_out(each: Sequence[Any], count: int) -> list[Any]:
    """`count` of them, in turns."""
    return [each[number % len(each)] for number in range(count)]

"""Tools, choices, formats and switches with anything in any place: a request or a refusal."""

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.openai.chat_request import ChatRequest
from headrace.client.conversation import render_request
from headrace.rpc.errors import ServiceError
from tests.support.chat_requests import PROFILES, parsed

CLOSED = {
    "type": "object",
    "properties": {"a": {"type": "array", "items": {"anyOf": [{"type": "null"}, {"enum": [1]}]}}},
    "required": ["a"],
    "additionalProperties": False,
}
FUNCTION = {"name": "f", "description": "x", "parameters": CLOSED, "strict": True}
TOOL = {"type": "function", "function": FUNCTION}
NAMED = {"type": "function", "function": {"name": "f"}}
WHOLE: list[dict[str, Any]] = [
    {"tools": [None, TOOL], "tool_choice": NAMED, "parallel_tool_calls": False},
    {
        "tools": [TOOL],
        "tool_choice": {
            "type": "allowed_tools",
            "allowed_tools": {"mode": "required", "tools": [NAMED]},
        },
    },
    {"functions": [FUNCTION], "function_call": {"name": "f"}},
    {
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "x", "strict": True, "schema": CLOSED},
        }
    },
    {"structured_outputs": {"choice": ["a", "b"]}, "chat_template_kwargs": {"thinking": True}},
    {"guided_json": CLOSED, "reasoning_effort": "none"},
]
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=4,
)


def _places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The paths to all values within, outermost first."""
    entries = value.items() if isinstance(value, dict) else enumerate(value)
    for key, entry in entries:
        yield (*path, key)
        if isinstance(entry, dict | list):
            yield from _places(entry, (*path, key))


def _replaced(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    if not path:
        return new
    key, *rest = path
    if isinstance(value, dict):
        return {**value, key: _replaced(value[key], tuple(rest), new)}
    return [_replaced(e, tuple(rest), new) if i == key else e for i, e in enumerate(value)]


PLACES = [(fields, path) for fields in WHOLE for path in _places(fields)]


@pytest.mark.parametrize("profile", ["openai", "premai", "lenient"])
@pytest.mark.parametrize("fields", WHOLE, ids="+".join)
def test_taken(profile: str, fields: dict[str, Any]) -> None:
    """Before anything is replaced, all of them are requests with something to say."""
    request = parsed(profile, **fields)
    assert () == request.ignored
    assert (request.tools, request.content_guide, request.thinking) != ((), None, None)


@settings(max_examples=400)
@given(st.sampled_from(PLACES), JSON, st.sampled_from(sorted(PROFILES)))
def test_anything_anywhere(place: tuple[Any, Any], new: Any, profile: str) -> None:
    """Whatever stands in a place, the result is whole, or a refusal with a parameter."""
    fields, path = place
    found = _outcome(profile, _replaced(fields, path, new))
    if isinstance(found, ChatRequest):
        _require_whole(found)
    else:
        assert found.row.http_status == 400
        assert found.param
        assert len(found.message) < 500


def _outcome(profile: str, fields: dict[str, Any]) -> ChatRequest | ServiceError:
    try:
        return parsed(profile, **fields)
    except ServiceError as error:
        return error


def _require_whole(request: ChatRequest) -> None:
    """The parts of a request agree, and the tokenizer's contract can hold them."""
    names = [tool.name for tool in request.tools]
    assert len(set(names)) == len(names) == len(request.origins.tool_indexes)
    assert set(request.tool_choice.allowed_names) <= set(names)
    assert (request.shape.calls_as is None) == (names == [])
    wire = render_request(request.prompt_request("m"))
    assert wire.HasField("content_guide") == (request.content_guide is not None)

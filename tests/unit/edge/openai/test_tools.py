"""Tools and functions of requests that ask for no call, and of those that do."""

import json
from typing import Any

import pytest

from edge.openai.chat_request import RequestRules, parse_chat_request
from edge.openai.request_limits import RequestLimits
from headrace.rpc.errors import ServiceError
from tests.support.chat_requests import BASE, LENIENT, PROFILES, code_of, parsed, refusal

TOOL = {"type": "function", "function": {"name": "<string>", "parameters": {}, "strict": True}}


@pytest.mark.parametrize("profile", [*LENIENT, "premai"])
def test_tools_without_calls(profile: str) -> None:
    """With choice none nothing is called, and what the tools are does not matter; null is none."""
    fields = {
        "tools": [TOOL, None, "any"],
        "tool_choice": "none",
        "functions": [TOOL["function"]],
        "function_call": "none",
    }
    assert parsed(profile) == parsed(profile, **fields)


@pytest.mark.parametrize(
    ("tool", "param", "code"),
    [
        (TOOL, "tools[0].function.name", "invalid_value"),
        ({}, "tools[0].type", "missing_required_parameter"),
        ({"type": "x"}, "tools[0].type", "invalid_value"),
        ({"type": "function"}, "tools[0].function", "missing_required_parameter"),
        (
            {"type": "function", "function": {}},
            "tools[0].function.name",
            "missing_required_parameter",
        ),
        (
            {"type": "function", "function": {"name": "a" * 65}},
            "tools[0].function.name",
            "string_above_max_length",
        ),
        (
            {"type": "function", "function": {"name": "f", "parameters": []}},
            "tools[0].function.parameters",
            "invalid_type",
        ),
        (
            {"type": "function", "function": {"name": "f", "strict": 1}},
            "tools[0].function.strict",
            "invalid_type",
        ),
        ({"type": "custom", "custom": {"name": "a b"}}, "tools[0].custom.name", "invalid_value"),
    ],
)
def test_strict_tools(tool: Any, param: str, code: str) -> None:
    """Strict profiles hold a tool to OpenAI's form, be it called or not."""
    for choice in ("none", "auto"):
        error = refusal("openai", tools=[tool], tool_choice=choice)
        assert (param, code) == (error.param, code_of(error))


def test_function_name_in_openais_words() -> None:
    """The wording that clients know."""
    assert refusal("openai", tools=[TOOL]).message == (
        "Invalid 'tools[0].function.name': string does not match pattern. Expected a string that "
        "matches the pattern '^[a-zA-Z0-9_-]+$'."
    )
    assert "functions[0].name" == refusal("openai", functions=[{"name": "<string>"}]).param


def test_strict_tools_that_are_right() -> None:
    """A well-formed tool without parameters, with choice none, asks for nothing."""
    tools = [{"type": "function", "function": {"name": "f-1_A"}}]

    assert parsed("openai") == parsed("openai", tools=tools, tool_choice="none")


@pytest.mark.parametrize(
    ("name", "value", "code"),
    [
        ("tool_choice", "required", None),
        ("tool_choice", {"type": "function", "function": {"name": "f"}}, None),
        ("tool_choice", "sometimes", "invalid_value"),
        ("tool_choice", 1, "invalid_type"),
        ("function_call", {"name": "f"}, None),
        ("tools", {}, "invalid_type"),
        ("tools", [{}] * 129, "array_above_max_length"),
    ],
)
@pytest.mark.parametrize("profile", ["openai", "lenient"])
def test_choices_without_tools(profile: str, name: str, value: Any, code: str | None) -> None:
    """A call is asked for and nothing is there that could be called."""
    error = refusal(profile, **{name: value})

    assert (name, code) == (error.param, code_of(error))


@pytest.mark.parametrize("profile", ["openai", "lenient"])
def test_tools_too_large(profile: str) -> None:
    """Tools are bounded in bytes, and in depth, in every profile."""
    rules = RequestRules(PROFILES[profile], RequestLimits(max_tool_bytes=64))
    deep: Any = {}
    for _ in range(300):
        deep = {"a": deep}
    for parameters in ({"x": "y" * 64}, deep):
        tool = {"type": "function", "function": {"name": "f", "parameters": parameters}}
        body = json.dumps({**BASE, "tools": [tool], "tool_choice": "none"}).encode()
        with pytest.raises(ServiceError) as caught:
            parse_chat_request(body, rules)
        assert ("tools", "invalid_value") == (caught.value.param, code_of(caught.value))

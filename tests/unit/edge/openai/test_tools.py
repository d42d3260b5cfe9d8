"""Tools and functions: what may be called, what is refused, and what enters nothing."""

import json
from typing import Any

import pytest

from edge.openai.answer_shape import AnswerShape
from edge.openai.chat_request import RequestRules, parse_chat_request
from edge.openai.request_limits import RequestLimits
from headrace.client.prompt_request import Function, ToolChoice
from headrace.rpc.errors import ServiceError
from tests.support.chat_requests import BASE, LENIENT, PROFILES, code_of, parsed, refusal

TOOL = {"type": "function", "function": {"name": "<string>", "parameters": {}, "strict": True}}
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}}
CLOSED = {**SCHEMA, "required": ["city"], "additionalProperties": False}


def tool(name: str = "f", **more: Any) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, **more}}


@pytest.mark.wire("E13")
@pytest.mark.parametrize("profile", PROFILES)
def test_tools(profile: str) -> None:
    """Functions come in their order, nulls left out; without parameters they take no arguments."""
    request = parsed(
        profile,
        tools=[
            None,
            tool("weather", description="Of a city.", parameters=SCHEMA, strict=False),
            tool("time", parameters=None),
            None,
            tool("closed", parameters=CLOSED, strict=True),
        ],
    )

    assert request.tools == (
        Function("weather", "Of a city.", json.dumps(SCHEMA, separators=(",", ":"))),
        Function("time"),
        Function("closed", None, json.dumps(CLOSED, separators=(",", ":")), strict=True),
    )
    assert (ToolChoice(), AnswerShape("tools")) == (request.tool_choice, request.shape)
    assert (1, 2, 4) == request.origins.tool_indexes
    assert () == request.ignored


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize(
    ("call", "choice", "is_named"),
    [
        (None, ToolChoice(single_call=True), False),
        ("auto", ToolChoice(single_call=True), False),
        ({"name": "b"}, ToolChoice(required=True, allowed_names=("b",), single_call=True), True),
    ],
)
def test_functions(profile: str, call: Any, choice: ToolChoice, is_named: bool) -> None:
    """The older form becomes the same, with one call at most."""
    functions = [{"name": "a"}, None, {"name": "b", "description": "x", "parameters": {}}]

    request = parsed(profile, functions=functions, function_call=call)

    assert request.tools == (Function("a"), Function("b", "x", '{"type":"object"}'))
    assert choice == request.tool_choice
    assert AnswerShape("functions", is_named=is_named) == request.shape
    assert (0, 2) == request.origins.tool_indexes


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize(
    ("given", "sent"),
    [
        ({}, {"type": "object"}),
        ({"properties": {}}, {"properties": {}, "type": "object"}),
        ({"type": ["object", "null"]}, {"type": "object"}),
        ({"type": "object", "x": 1}, {"type": "object", "x": 1}),
    ],
)
def test_arguments_are_objects(profile: str, given: Any, sent: Any) -> None:
    """A schema that does not say so is one of objects."""
    (function,) = parsed(profile, tools=[tool(parameters=given)]).tools

    assert sent == json.loads(function.parameters)


@pytest.mark.parametrize("profile", PROFILES)
def test_arguments_that_are_no_objects(profile: str) -> None:
    """A schema of anything else is refused in OpenAI's words."""
    error = refusal(profile, tools=[None, tool("f", parameters={"type": "array"})])

    assert error.message == (
        "Invalid schema for function 'f': schema must be a JSON Schema of 'type: \"object\"', "
        "got 'type: \"array\"'."
    )
    assert error.param == "tools[1].function.parameters"
    assert code_of(error) == "invalid_function_parameters"


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


@pytest.mark.wire("E13.limits")
@pytest.mark.parametrize(
    ("wrong", "param", "code"),
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
        (tool("a" * 65), "tools[0].function.name", "string_above_max_length"),
        (tool(parameters=[]), "tools[0].function.parameters", "invalid_type"),
        (tool(strict=1), "tools[0].function.strict", "invalid_type"),
        (tool(description=1), "tools[0].function.description", "invalid_type"),
        ({"type": "custom", "custom": {"name": "a b"}}, "tools[0].custom.name", "invalid_value"),
    ],
)
def test_strict_tools(wrong: Any, param: str, code: str) -> None:
    """Strict profiles hold a tool to OpenAI's form, be it called or not."""
    for choice in ("none", "auto"):
        error = refusal("openai", tools=[wrong], tool_choice=choice)
        assert (param, code) == (error.param, code_of(error))


@pytest.mark.parametrize("profile", [*LENIENT, "premai"])
def test_tools_that_may_be_called_have_names(profile: str) -> None:
    """Other profiles hold them to it where the call can be produced; the type may be left out."""
    for choice in (None, "auto", "required"):
        error = refusal(profile, tools=[TOOL], tool_choice=choice)
        assert ("tools[0].function.name", "invalid_value") == (error.param, code_of(error))
    assert (Function("f"),) == parsed(profile, tools=[{"function": {"name": "f"}}]).tools


@pytest.mark.parametrize("profile", PROFILES)
def test_custom_tools(profile: str) -> None:
    """A tool without a schema is refused by name where it may be called."""
    custom = {"type": "custom", "custom": {"name": "c"}}

    error = refusal(profile, tools=[tool(), custom])

    assert ("tools[1].type", "unsupported_value") == (error.param, code_of(error))
    assert () == parsed(profile, tools=[custom], tool_choice="none").tools


@pytest.mark.parametrize("profile", PROFILES)
def test_names_differ(profile: str) -> None:
    """Two functions of one name cannot be told apart."""
    error = refusal(profile, tools=[tool(), None, tool()])
    assert ("tools[2].function.name", "invalid_value") == (error.param, code_of(error))
    assert "functions[1].name" == refusal(profile, functions=[{"name": "f"}] * 2).param


def test_function_name_in_openais_words() -> None:
    """The wording that clients know."""
    assert refusal("openai", tools=[TOOL]).message == (
        "Invalid 'tools[0].function.name': string does not match pattern. Expected a string that "
        "matches the pattern '^[a-zA-Z0-9_-]+$'."
    )
    assert "functions[0].name" == refusal("openai", functions=[{"name": "<string>"}]).param


def test_strict_functions() -> None:
    """OpenAI's rules hold strict functions that may be called, under its own forms alone."""
    loose = tool("f", parameters=SCHEMA, strict=True)

    error = refusal("openai", tools=[None, loose])

    assert error.message == (
        "Invalid schema for function 'f': In context=(), 'additionalProperties' is required to be "
        "supplied and to be false."
    )
    assert ("tools[1].function.parameters", "invalid_function_parameters") == (
        error.param,
        code_of(error),
    )
    assert () == parsed("openai", tools=[loose], tool_choice="none").tools
    for profile in (*LENIENT, "premai"):
        assert parsed(profile, tools=[loose]).tools[0].strict


@pytest.mark.wire("E13.limits")
@pytest.mark.parametrize("profile", ["openai", "lenient"])
def test_tools_too_large(profile: str) -> None:
    """Tools are bounded in number, in bytes, and in depth, in every profile, called or not."""
    rules = RequestRules(PROFILES[profile], RequestLimits(max_tool_bytes=64))
    deep: Any = {}
    for _ in range(300):
        deep = {"a": deep}
    for parameters in ({"x": "y" * 64}, deep):
        body = json.dumps({**BASE, "tools": [tool(parameters=parameters)], "tool_choice": "none"})
        with pytest.raises(ServiceError) as caught:
            parse_chat_request(body.encode(), rules)
        assert ("tools", "invalid_value") == (caught.value.param, code_of(caught.value))
    assert 128 == len(parsed(profile, tools=[tool(f"f{n}") for n in range(128)] + [None]).tools)
    error = refusal(profile, tools=[tool(f"f{n}") for n in range(129)])
    assert ("tools", "array_above_max_length") == (error.param, code_of(error))

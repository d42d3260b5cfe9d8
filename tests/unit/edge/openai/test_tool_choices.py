"""Which of the functions are called: `tool_choice`, `function_call`, `parallel_tool_calls`."""

from typing import Any

import pytest

from edge.openai.answer_shape import AnswerShape
from headrace.client.prompt_request import Function, ToolChoice
from tests.support.chat_requests import LENIENT, PROFILES, STRICT, code_of, parsed, refusal

TOOLS = [{"type": "function", "function": {"name": name}} for name in ("a", "b", "c")]
FUNCTIONS = [{"name": "old"}]
NAMED = {"type": "function", "function": {"name": "b"}}


def allowed(mode: Any, *names: str) -> dict[str, Any]:
    tools = [{"type": "function", "function": {"name": name}} for name in names]
    return {"type": "allowed_tools", "allowed_tools": {"mode": mode, "tools": tools}}


@pytest.mark.wire("E13", "E13.choice")
@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize(
    ("choice", "expected", "is_named"),
    [
        (None, ToolChoice(), False),
        ("auto", ToolChoice(), False),
        ("required", ToolChoice(required=True), False),
        (NAMED, ToolChoice(required=True, allowed_names=("b",), single_call=True), True),
        (allowed("auto", "c", "a", "c"), ToolChoice(allowed_names=("c", "a")), False),
        (allowed("required", "a"), ToolChoice(required=True, allowed_names=("a",)), False),
    ],
)
def test_choices(profile: str, choice: Any, expected: ToolChoice, is_named: bool) -> None:
    """Each form of the choice says what is called; only a named one names."""
    request = parsed(profile, tools=TOOLS, tool_choice=choice)

    assert (expected, 3) == (request.tool_choice, len(request.tools))
    assert AnswerShape("tools", is_named=is_named) == request.shape


@pytest.mark.wire("E13", "E13.choice")
@pytest.mark.parametrize("profile", PROFILES)
def test_none(profile: str) -> None:
    """Nothing is called, and nothing is shown of what might have been."""
    assert parsed(profile) == parsed(profile, tools=TOOLS, tool_choice="none")
    assert parsed(profile) == parsed(profile, functions=FUNCTIONS, function_call="none")


@pytest.mark.parametrize("profile", ["openai", "lenient"])
@pytest.mark.parametrize(
    ("choice", "param", "code"),
    [
        ("sometimes", "tool_choice", "invalid_value"),
        (1, "tool_choice", "invalid_type"),
        ({}, "tool_choice.type", "missing_required_parameter"),
        ({"type": "x"}, "tool_choice.type", "invalid_value"),
        ({"type": "custom", "custom": {"name": "a"}}, "tool_choice.type", "unsupported_value"),
        ({"type": "function"}, "tool_choice.function", "missing_required_parameter"),
        (
            {"type": "function", "function": {}},
            "tool_choice.function.name",
            "missing_required_parameter",
        ),
        (allowed("none", "a"), "tool_choice.allowed_tools.mode", "invalid_value"),
        (allowed(None, "a"), "tool_choice.allowed_tools.mode", "missing_required_parameter"),
        (allowed("auto"), "tool_choice.allowed_tools.tools", "empty_array"),
        (
            allowed("auto", *("a" for _ in range(129))),
            "tool_choice.allowed_tools.tools",
            "array_above_max_length",
        ),
        (
            {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": {}}},
            "tool_choice.allowed_tools.tools",
            "invalid_type",
        ),
        (
            {
                "type": "allowed_tools",
                "allowed_tools": {
                    "mode": "auto",
                    "tools": [{"type": "custom", "custom": {"name": "a"}}],
                },
            },
            "tool_choice.allowed_tools.tools[0].type",
            "unsupported_value",
        ),
    ],
)
def test_wrong_choices(profile: str, choice: Any, param: str, code: str) -> None:
    """A choice of another form is refused, in every profile."""
    error = refusal(profile, tools=TOOLS, tool_choice=choice)
    assert (param, code) == (error.param, code_of(error))


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize(
    "choice", [{**NAMED, "function": {"name": "x"}}, allowed("auto", "a", "x")]
)
def test_a_name_that_nothing_has(profile: str, choice: Any) -> None:
    """A function that is not among the tools cannot be chosen; the name is told."""
    error = refusal(profile, tools=TOOLS, tool_choice=choice)

    assert ("tool_choice", None) == (error.param, code_of(error))
    assert error.message == (
        "Invalid value for 'tool_choice': no function named 'x' was specified in the 'tools' "
        "parameter."
    )
    older = refusal(profile, functions=FUNCTIONS, function_call={"name": "x"})
    assert "no function named 'x' was specified in the 'functions' parameter." in older.message


@pytest.mark.parametrize("value", ["required", 1, [], {"type": "function"}])
def test_wrong_function_call(value: Any) -> None:
    """The older form knows none, auto and a name."""
    error = refusal("openai", functions=FUNCTIONS, function_call=value)
    assert error.param is not None
    assert error.param.startswith("function_call")


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize(
    ("name", "value", "needed"),
    [
        ("tool_choice", "required", "tools"),
        ("tool_choice", NAMED, "tools"),
        ("tool_choice", allowed("auto", "a"), "tools"),
        ("function_call", {"name": "a"}, "functions"),
    ],
)
def test_choices_without_tools(profile: str, name: str, value: Any, needed: str) -> None:
    """A call is asked for and nothing is there that could be called."""
    for nothing in ({}, {needed: []}, {needed: [None]}):
        error = refusal(profile, **{name: value}, **nothing)
        assert (name, None) == (error.param, code_of(error))
        assert error.message == (
            f"Invalid value for '{name}': '{name}' is only allowed when '{needed}' are specified."
        )


@pytest.mark.wire("E13", "E13.parallel")
@pytest.mark.parametrize("profile", PROFILES)
def test_parallel_calls(profile: str) -> None:
    """False is one call at most; true and null are what is the case anyway."""
    single = parsed(profile, tools=TOOLS, parallel_tool_calls=False)
    required = parsed(profile, tools=TOOLS, parallel_tool_calls=False, tool_choice="required")

    assert ToolChoice(single_call=True) == single.tool_choice
    assert ToolChoice(required=True, single_call=True) == required.tool_choice
    for value in (True, None):
        assert parsed(profile, tools=TOOLS) == parsed(
            profile, tools=TOOLS, parallel_tool_calls=value
        )
    assert parsed(profile) == parsed(
        profile, tools=TOOLS, tool_choice="none", parallel_tool_calls=False
    )


@pytest.mark.parametrize("value", [True, False])
@pytest.mark.parametrize("others", [{}, {"tools": [None]}, {"functions": FUNCTIONS}])
def test_parallel_calls_without_tools(value: bool, others: Any) -> None:
    """Refused in OpenAI's words, whatever it says; lenient profiles name it as ignored."""
    for profile in STRICT:
        error = refusal(profile, parallel_tool_calls=value, **others)
        assert ("parallel_tool_calls", None) == (error.param, code_of(error))
        assert error.message == (
            "Invalid value for 'parallel_tool_calls': 'parallel_tool_calls' is only allowed when "
            "'tools' are specified."
        )
    for profile in LENIENT:
        ignored = parsed(profile, parallel_tool_calls=value, **others).ignored
        assert ("parallel_tool_calls",) == ignored


def test_both_forms() -> None:
    """An answer has one form: strict profiles refuse both, lenient ones take the newer."""
    fields = {"tools": TOOLS, "functions": FUNCTIONS}
    for profile in STRICT:
        error = refusal(profile, **fields)
        assert ("functions", "invalid_parameter_combination") == (error.param, code_of(error))
        assert "'tools' and 'functions'" in error.message
    for profile in LENIENT:
        request = parsed(profile, **fields)
        assert (AnswerShape("tools"), ("functions",)) == (request.shape, request.ignored)
        told = parsed(profile, **fields, function_call={"name": "old"}).ignored
        assert ("function_call", "functions") == told


@pytest.mark.parametrize("profile", PROFILES)
def test_both_forms_of_which_one_is_live(profile: str) -> None:
    """The form that may not be called enters nothing beside the one that may."""
    fields = {"tools": TOOLS, "functions": FUNCTIONS}

    tools = parsed(profile, **fields, function_call="none")
    functions = parsed(profile, **fields, tool_choice="none")

    assert ("tools", 3, ()) == (tools.shape.calls_as, len(tools.tools), tools.ignored)
    assert ("functions", (Function("old"),)) == (functions.shape.calls_as, functions.tools)
    assert parsed(profile) == parsed(profile, **fields, tool_choice="none", function_call="none")

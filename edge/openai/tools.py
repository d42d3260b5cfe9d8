"""Tools and functions where a request sends them and asks for no call.

`tools` with `tool_choice` none, and the older `functions` with `function_call` none, enter nothing:
the answer is a text. Any other use is refused by name.
"""

from collections.abc import Sequence
from typing import Any

import orjson

from edge.openai import checks, problems
from edge.openai.request_limits import RequestLimits

MAX_TOOLS = 128
CHOICES = ("none", "auto", "required")
TOOL_NAME = checks.string(64, least=1, pattern=r"[a-zA-Z0-9_-]+")
TOOL_KIND = checks.one_of("function", "custom")
_check_text = checks.string()


def settle_tools(values: dict[str, Any], limits: RequestLimits, *, strict: bool) -> None:
    """Take tools and functions out of `values`.

    `strict` checks them as if they could be called. Raises ServiceError for any use of them.
    """
    tools = _entries("tools", values.pop("tools", ()))
    functions = _entries("functions", values.pop("functions", ()))
    _check_size(tools, functions, limits.max_tool_bytes)
    if strict:
        for index, tool in enumerate(tools):
            _check_tool(f"tools[{index}]", tool)
        for index, function in enumerate(functions):
            _check_function(f"functions[{index}]", function)
    _settle_choice("tool_choice", values.pop("tool_choice", None), "tools", tools)
    _settle_choice("function_call", values.pop("function_call", None), "functions", functions)


def _entries(param: str, values: Sequence[Any]) -> Sequence[Any]:
    """The array without its nulls, which say nothing."""
    entries = [entry for entry in values if entry is not None]
    if len(entries) > MAX_TOOLS:
        raise problems.array_too_long(param, MAX_TOOLS, len(entries))
    return entries


def _settle_choice(param: str, choice: Any, field: str, entries: Sequence[Any]) -> None:
    if isinstance(choice, str):
        checks.one_of(*CHOICES)(param, choice)
    elif choice is not None and not isinstance(choice, dict):
        raise problems.wrong_type(param, "one of a string or object", choice)
    if choice == "none":
        return
    if entries:
        raise problems.unsupported_parameter(field)
    if choice not in (None, "auto"):
        raise problems.refused(
            f"Invalid value for '{param}': '{param}' is only allowed when '{field}' are specified.",
            param,
        )


def _check_size(tools: Sequence[Any], functions: Sequence[Any], most: int) -> None:
    for param, entries in (("tools", tools), ("functions", functions)):
        try:
            size = len(orjson.dumps(entries)) if entries else 0
        except orjson.JSONEncodeError:
            raise problems.refused(
                f"Invalid '{param}': nested too deeply.", param, "invalid_value"
            ) from None
        if size > most:
            raise problems.refused(
                f"Invalid '{param}': too large. Expected at most {most} bytes of JSON, "
                f"but got {size} bytes instead.",
                param,
                "invalid_value",
            )


def _check_tool(param: str, value: Any) -> None:
    tool = checks.json_object(param, value)
    kind = _required(param, tool, "type")
    TOOL_KIND(f"{param}.type", kind)
    _check_function(f"{param}.{kind}", _required(param, tool, kind))


def _check_function(param: str, value: Any) -> None:
    function = checks.json_object(param, value)
    TOOL_NAME(f"{param}.name", _required(param, function, "name"))
    optional: dict[str, checks.Check] = {
        "description": _check_text,
        "parameters": checks.json_object,
        "strict": checks.boolean,
    }
    for name, check in optional.items():
        if function.get(name) is not None:
            check(f"{param}.{name}", function[name])


def _required(param: str, entry: dict[str, Any], name: str) -> Any:
    value = entry.get(name)
    if value is None:
        raise problems.missing(f"{param}.{name}")
    return value

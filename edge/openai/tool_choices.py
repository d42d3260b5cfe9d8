"""`tool_choice` and `function_call`: which of the functions that are offered may be called."""

from dataclasses import dataclass
from typing import Any, Literal

from edge.openai import checks, problems
from headrace.client.prompt_request import ToolChoice

MODES = ("none", "auto", "required")
LEGACY_MODES = ("none", "auto")
ALLOWED_MODES = ("auto", "required")
MAX_ALLOWED = 128
CHOICE_KINDS = ("function", "allowed_tools", "custom")
_mode = checks.one_of(*MODES)
_legacy_mode = checks.one_of(*LEGACY_MODES)
_allowed_mode = checks.one_of(*ALLOWED_MODES)
_kind = checks.one_of(*CHOICE_KINDS)
_name = checks.string(least=1)
Offer = Literal["tools", "functions"]


@dataclass(frozen=True, slots=True)
class Choice:
    """What may be called. `is_named`: the caller named the one function that is."""

    tool_choice: ToolChoice
    is_named: bool = False


_ANY = Choice(ToolChoice())
_REQUIRED = Choice(ToolChoice(required=True))


def read_choice(param: str, value: Any, *, offer: Offer) -> Choice | None:
    """The choice, as `tool_choice` or `function_call` give it; None = nothing is called.

    Raises ServiceError for another form, and for custom tools.
    """
    if value is None or value == "auto":
        return _ANY
    if isinstance(value, str):
        mode = (_mode if offer == "tools" else _legacy_mode)(param, value)
        return None if mode == "none" else _REQUIRED
    if not isinstance(value, dict):
        raise problems.wrong_type(param, "one of a string or object", value)
    if offer == "functions":
        return _named(_name_of(param, value))
    kind = _kind(f"{param}.type", required(param, value, "type"))
    if kind == "custom":
        raise problems.unsupported_value(f"{param}.type", kind)
    inner = checks.json_object(f"{param}.{kind}", required(param, value, kind))
    if kind == "function":
        return _named(_name_of(f"{param}.function", inner))
    return _allowed(f"{param}.{kind}", inner)


def required(param: str, entry: dict[str, Any], name: str) -> Any:
    """A value that must be there. Raises ServiceError."""
    value = entry.get(name)
    if value is None:
        raise problems.missing(f"{param}.{name}")
    return value


def _named(name: str) -> Choice:
    return Choice(ToolChoice(required=True, allowed_names=(name,), single_call=True), is_named=True)


def _name_of(param: str, entry: dict[str, Any]) -> str:
    return _name(f"{param}.name", required(param, entry, "name"))


def _allowed(param: str, value: dict[str, Any]) -> Choice:
    mode = _allowed_mode(f"{param}.mode", required(param, value, "mode"))
    entries = required(param, value, "tools")
    if not isinstance(entries, list):
        raise problems.wrong_type(f"{param}.tools", "an array of objects", entries)
    if not entries:
        raise problems.empty_array(f"{param}.tools")
    if len(entries) > MAX_ALLOWED:
        raise problems.array_too_long(f"{param}.tools", MAX_ALLOWED, len(entries))
    names = [_allowed_name(f"{param}.tools[{index}]", entry) for index, entry in enumerate(entries)]
    # A name that comes twice says no more than once.
    return Choice(
        ToolChoice(required=mode == "required", allowed_names=tuple(dict.fromkeys(names)))
    )


def _allowed_name(param: str, value: Any) -> str:
    entry = checks.json_object(param, value)
    kind = _kind(f"{param}.type", required(param, entry, "type"))
    if kind != "function":
        raise problems.unsupported_value(f"{param}.type", kind)
    function = checks.json_object(f"{param}.function", required(param, entry, "function"))
    return _name_of(f"{param}.function", function)

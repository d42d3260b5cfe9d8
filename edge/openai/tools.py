"""`tools` and `functions`: what an answer may call, and which of it.

With choice none, or where they are empty, they enter nothing. `functions` is the older form of
`tools`: the same functions, of which an answer calls one at most.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from edge.openai import checks, problems
from edge.openai.answer_shape import AnswerShape
from edge.openai.profile import Profile
from edge.openai.request_limits import RequestLimits
from edge.openai.strict_schema import strict_schema_problem
from edge.openai.tool_choices import Choice, Offer, read_choice, required
from headrace.client.prompt_request import Function, ToolChoice
from headrace.rpc.errors import ServiceError

MAX_TOOLS = 128
TOOL_NAME = checks.string(64, least=1, pattern=r"[a-zA-Z0-9_-]+")
TOOL_KIND = checks.one_of("function", "custom")
TOOL_FIELDS = ("tools", "tool_choice", "functions", "function_call", "parallel_tool_calls")
_CHOICES: dict[Offer, str] = {"tools": "tool_choice", "functions": "function_call"}
_check_text = checks.string()
_ANY_CALLS, _NO_CALLS = ToolChoice(), AnswerShape()


@dataclass(frozen=True, slots=True)
class ToolUse:
    """What of a request is about calls; `ignored` names its fields that have no effect."""

    tools: tuple[Function, ...] = ()
    tool_choice: ToolChoice = _ANY_CALLS
    shape: AnswerShape = _NO_CALLS
    places: tuple[int, ...] = ()
    ignored: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Offered:
    """One of the two forms: its entries without nulls by their places, and what is chosen."""

    field: Offer
    entries: tuple[tuple[int, Any], ...]
    choice: Choice | None
    is_chosen_by_name: bool

    @property
    def is_live(self) -> bool:
        return bool(self.entries) and self.choice is not None


def settle_tools(values: dict[str, Any], limits: RequestLimits, profile: Profile) -> ToolUse:
    """Take what is about calls out of `values`.

    `strict_messages` profiles hold all functions to OpenAI's form, the others only those that may
    be called. Raises ServiceError.
    """
    entries = {field: _entries(field, values.pop(field, ())) for field in _CHOICES}
    for field in _CHOICES:
        _check_size(field, [entry for _, entry in entries[field]], limits.max_tool_bytes)
        if profile.strict_messages:
            for place, entry in entries[field]:
                _check_entry(field, place, entry, is_strict=True)
    offers = [_offered(field, entries[field], values) for field in _CHOICES]
    parallel = values.pop("parallel_tool_calls", None)
    ignored = () if parallel is None else _settle_parallel(offers[0], profile)
    live = [offer for offer in offers if offer.is_live]
    if len(live) > 1:
        ignored += _drop_functions(live[1], profile)
    if not live:
        return ToolUse(ignored=ignored)
    is_single = live[0].field == "functions" or parallel is False
    return _use(live[0], profile, ignored, is_single=is_single)


def _offered(
    field: Offer, entries: tuple[tuple[int, Any], ...], values: dict[str, Any]
) -> _Offered:
    param = _CHOICES[field]
    value = values.pop(param, None)
    choice = read_choice(param, value, offer=field)
    if not entries and choice is not None and choice.tool_choice != _ANY_CALLS:
        raise _only_allowed_with(param, field)
    return _Offered(field, entries, choice, value is not None)


def _settle_parallel(tools: _Offered, profile: Profile) -> tuple[str, ...]:
    """What `parallel_tool_calls` means without tools: nothing."""
    if tools.entries:
        return ()
    if profile.strict:
        raise _only_allowed_with("parallel_tool_calls", "tools")
    return ("parallel_tool_calls",)


def _drop_functions(functions: _Offered, profile: Profile) -> tuple[str, ...]:
    """Both forms at once: an answer has only one of them, the newer."""
    if profile.strict:
        raise problems.exclusive("tools", "functions")
    return ("functions", "function_call") if functions.is_chosen_by_name else ("functions",)


def _use(
    offer: _Offered, profile: Profile, ignored: tuple[str, ...], *, is_single: bool
) -> ToolUse:
    functions = tuple(_function(offer.field, *entry, profile=profile) for entry in offer.entries)
    names = _distinct_names(offer, functions)
    choice = offer.choice or Choice(_ANY_CALLS)
    wanted = choice.tool_choice
    for name in wanted.allowed_names:
        if name not in names:
            raise _unknown_function(_CHOICES[offer.field], offer.field, name)
    return ToolUse(
        tools=functions,
        tool_choice=ToolChoice(
            required=wanted.required,
            allowed_names=wanted.allowed_names,
            single_call=wanted.single_call or is_single,
        ),
        shape=AnswerShape(offer.field, is_named=choice.is_named),
        places=tuple(place for place, _ in offer.entries),
        ignored=ignored,
    )


def _entries(param: str, values: Sequence[Any]) -> tuple[tuple[int, Any], ...]:
    """The array without its nulls, which say nothing."""
    entries = tuple((place, entry) for place, entry in enumerate(values) if entry is not None)
    if len(entries) > MAX_TOOLS:
        raise problems.array_too_long(param, MAX_TOOLS, len(entries))
    return entries


def _check_size(param: str, entries: list[Any], most: int) -> None:
    if not entries:
        return
    try:
        size = len(orjson.dumps(entries))
    except orjson.JSONEncodeError:
        raise problems.nested_too_deeply(param) from None
    if size > most:
        raise problems.too_many_bytes(param, most, size)


def _check_entry(field: Offer, place: int, entry: Any, *, is_strict: bool) -> dict[str, Any]:
    """The function that an entry defines, its form checked; of a custom tool its definition."""
    param = f"{field}[{place}]"
    value = checks.json_object(param, entry)
    if field == "tools":
        kind = value.get("type")
        if kind is None and not is_strict:
            kind = "function"
        kind = TOOL_KIND(f"{param}.type", required(param, {"type": kind}, "type"))
        param = f"{param}.{kind}"
        value = checks.json_object(param, required(f"{field}[{place}]", value, kind))
    _check_function(param, value)
    return value


def _check_function(param: str, function: dict[str, Any]) -> None:
    TOOL_NAME(f"{param}.name", required(param, function, "name"))
    optional: dict[str, checks.Check] = {
        "description": _check_text,
        "parameters": checks.json_object,
        "strict": checks.boolean,
    }
    for name, check in optional.items():
        if function.get(name) is not None:
            check(f"{param}.{name}", function[name])


def _function(field: Offer, place: int, entry: Any, *, profile: Profile) -> Function:
    """A function that may be called."""
    value = _check_entry(field, place, entry, is_strict=profile.strict_messages)
    param = f"{field}[{place}]"
    if field == "tools":
        if entry.get("type") == "custom":
            raise problems.unsupported_value(f"{param}.type", "custom")
        param = f"{param}.function"
    name, is_strict = value["name"], bool(value.get("strict"))
    parameters, param = value.get("parameters"), f"{param}.parameters"
    if parameters is None:
        return Function(name, value.get("description"), strict=is_strict)
    if is_strict and profile.strict_messages:
        problem = strict_schema_problem(parameters)
        if problem is not None:
            raise problems.invalid_function_schema(name, problem, param)
    text = orjson.dumps(_of_objects(name, parameters, param)).decode()
    return Function(name, value.get("description"), text, is_strict)


def _of_objects(name: str, parameters: dict[str, Any], param: str) -> dict[str, Any]:
    """The schema, of objects alone: nothing else is arguments, though many do not say so."""
    kind = parameters.get("type")
    if kind == "object":
        return parameters
    if kind is None or (isinstance(kind, list) and "object" in kind):
        return {**parameters, "type": "object"}
    shown = problems.shown(str(kind))
    raise problems.invalid_function_schema(
        name, f"""schema must be a JSON Schema of 'type: "object"', got 'type: "{shown}"'.""", param
    )


def _distinct_names(offer: _Offered, functions: Sequence[Function]) -> set[str]:
    names: set[str] = set()
    for (place, _), function in zip(offer.entries, functions, strict=True):
        if function.name in names:
            inner = ".function" if offer.field == "tools" else ""
            param = f"{offer.field}[{place}]{inner}.name"
            raise problems.refused(
                f"Invalid '{param}': duplicate value. Expected names that differ, "
                f"but got '{function.name}' twice.",
                param,
                "invalid_value",
            )
        names.add(function.name)
    return names


def _only_allowed_with(param: str, field: str) -> ServiceError:
    return problems.refused(
        f"Invalid value for '{param}': '{param}' is only allowed when '{field}' are specified.",
        param,
    )


def _unknown_function(param: str, field: str, name: str) -> ServiceError:
    return problems.refused(
        f"Invalid value for '{param}': no function named '{problems.shown(name)}' was specified "
        f"in the '{field}' parameter.",
        param,
    )

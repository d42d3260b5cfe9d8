"""Functions on the wire to validated ones. Raises ServiceError that names the parameter."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn, Protocol

from headrace.common.v1 import errors_pb2
from headrace.rpc.errors import ServiceError
from headrace.tokenizer.v1.render_pb2 import Function, ToolChoice
from tokenizer_svc.json_objects import parsed_object
from tokenizer_svc.settings import LimitSettings

MAX_TOOLS = 128
_MAX_NAME_CHARACTERS = 64
_SHOWN_CHARACTERS = 80


class NamedSchema(Protocol):
    """What every message that describes a function has; `parameters` is JSON, empty = none."""

    name: str
    parameters: str


@dataclass(frozen=True, slots=True)
class ToolSpec:
    """A function that the answer may call, `index` its place in the request.

    `parameters` is the schema of its arguments, None where it takes none.
    """

    index: int
    name: str
    description: str | None
    parameters: dict[str, Any] | None
    strict: bool


def check_functions(functions: Sequence[NamedSchema], limits: LimitSettings, field: str) -> None:
    """Number, names and size of the functions in the request's `field`; cheap."""
    if len(functions) > MAX_TOOLS:
        _refuse(f"{field} has {len(functions)} entries; at most {MAX_TOOLS} are allowed.", field)
    size = sum(len(function.parameters) for function in functions)
    if size > limits.max_schema_characters:
        _refuse(
            f"{field} has schemas of {size} characters; at most "
            f"{limits.max_schema_characters} are allowed.",
            field,
        )
    names: set[str] = set()
    for index, function in enumerate(functions):
        param = f"{field}[{index}].name"
        if not 1 <= len(function.name) <= _MAX_NAME_CHARACTERS:
            _refuse(
                f"{param} has {len(function.name)} characters; it must have 1 to "
                f"{_MAX_NAME_CHARACTERS}.",
                param,
            )
        if function.name in names:
            _refuse(f"{param} is `{function.name}`, as another function's is.", param)
        names.add(function.name)


def function_characters(tools: Iterable[Function]) -> int:
    """Characters that the client wrote."""
    return sum(len(tool.name) + len(tool.description) + len(tool.parameters) for tool in tools)


def tool_specs(tools: Sequence[Function], limits: LimitSettings) -> tuple[ToolSpec, ...]:
    """The functions of RenderRequest.tools, within the limits; some milliseconds for large ones."""
    check_functions(tools, limits, "tools")
    return tuple(
        ToolSpec(
            index,
            tool.name,
            tool.description if tool.HasField("description") else None,
            _schema(index, tool.parameters),
            tool.strict,
        )
        for index, tool in enumerate(tools)
    )


def check_tool_choice(choice: ToolChoice, tools: Sequence[Function]) -> None:
    """The choice is among the tools; cheap."""
    if not tools:
        _refuse("tool_choice is set, but there are no tools.", "tool_choice")
    names = {tool.name for tool in tools}
    for name in choice.allowed_names:
        if name not in names:
            shown = name[:_SHOWN_CHARACTERS]
            _refuse(f"tool_choice names `{shown}`, which is none of the tools.", "tool_choice")


def _schema(index: int, text: str) -> dict[str, Any] | None:
    if not text:
        return None
    try:
        return parsed_object(text)
    except ValueError as error:
        param = f"tools[{index}].parameters"
        reason = str(error)[:_SHOWN_CHARACTERS]
        message = f"{param} is not the JSON of an object that can be read: {reason}."
        raise ServiceError(errors_pb2.ERROR_REASON_INVALID_REQUEST, message, param=param) from error


def _refuse(message: str, param: str) -> NoReturn:
    raise ServiceError(errors_pb2.ERROR_REASON_INVALID_REQUEST, message, param=param)

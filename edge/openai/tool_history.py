"""Tool calls and results in a history: what they hold, and that they belong together.

The older form, `function_call`, is a call without an id.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import orjson

from edge.openai import checks, problems
from headrace.client.prompt_request import ChatMessage, ToolCall
from headrace.rpc.errors import ServiceError

MAX_TOOL_CALLS = 128
# The tokenizer's bound; more take longer to check than anybody should wait.
MAX_CONVERSATION_CALLS = 4096
_MAX_ID_CHARACTERS = 256
FUNCTION_NAME = checks.string(64, least=1, pattern=r"[a-zA-Z0-9_-]+")
ANY_FUNCTION_NAME = checks.string(256, least=1)
CALL_ID = checks.string(_MAX_ID_CHARACTERS)
_check_type = checks.one_of("function", "custom")
_check_text = checks.string()


def parse_tool_calls(param: str, value: Any, *, is_strict: bool) -> tuple[ToolCall, ...]:
    """An assistant's calls, null entries left out. Raises ServiceError."""
    if not isinstance(value, list):
        raise problems.wrong_type(param, "an array of objects", value)
    if len(value) > MAX_TOOL_CALLS:
        raise problems.array_too_long(param, MAX_TOOL_CALLS, len(value))
    return tuple(
        _parse_tool_call(f"{param}[{index}]", entry, is_strict=is_strict)
        for index, entry in enumerate(value)
        if entry is not None
    )


def parse_function_call(param: str, value: Any, *, is_strict: bool) -> ToolCall:
    """A call in the older form. Raises ServiceError."""
    return _parse_function(param, value, "", is_strict=is_strict)


def parse_tool_call_id(param: str, value: Any, *, is_strict: bool) -> str | None:
    """The call that a result names; None where none is needed. Raises ServiceError."""
    call_id: str | None = None if value is None else CALL_ID(param, value)
    if call_id is None and is_strict:
        raise _missing_call_id(param)
    return call_id


def check_pairing(messages: Sequence[ChatMessage]) -> None:
    """Refuse results without a call and calls without a result, in OpenAI's words.

    Raises ServiceError naming the message, as in `messages.[3].role`.
    """
    open_ids: set[str] = set()
    named_ids: frozenset[str] = frozenset()
    for index, message in enumerate(messages):
        if message.role == "tool":
            _check_result(index, message.tool_call_id or "", named_ids)
            open_ids.discard(message.tool_call_id or "")
            continue
        if open_ids:
            raise _unanswered(index, open_ids)
        named_ids = frozenset(call.id for call in message.tool_calls if call.id)
        open_ids = set(named_ids)
    if open_ids:
        raise _unanswered(len(messages) - 1, open_ids)


def _check_result(index: int, call_id: str, named_ids: frozenset[str]) -> None:
    if not named_ids:
        raise problems.refused(
            "Invalid parameter: messages with role 'tool' must be a response to a preceeding "
            "message with 'tool_calls'.",
            f"messages.[{index}].role",
        )
    if call_id not in named_ids:
        raise problems.refused(
            f"Invalid parameter: 'tool_call_id' of '{problems.shown(call_id)}' not found in "
            "'tool_calls' of previous message.",
            f"messages.[{index}].tool_call_id",
        )


def _parse_tool_call(param: str, value: Any, *, is_strict: bool) -> ToolCall:
    call = checks.json_object(param, value)
    if call.get("type") is None and is_strict:
        raise problems.missing(f"{param}.type")
    if call.get("type") is not None:
        kind: str = _check_type(f"{param}.type", call["type"])
        if kind != "function":
            raise problems.unsupported_value(f"{param}.type", kind)
    call_id: str = "" if call.get("id") is None else CALL_ID(f"{param}.id", call["id"])
    if not call_id and is_strict:
        raise problems.missing(f"{param}.id")
    if call.get("function") is None:
        raise problems.missing(f"{param}.function")
    return _parse_function(f"{param}.function", call["function"], call_id, is_strict=is_strict)


def _parse_function(param: str, value: Any, call_id: str, *, is_strict: bool) -> ToolCall:
    function = checks.json_object(param, value)
    if function.get("name") is None:
        raise problems.missing(f"{param}.name")
    check = FUNCTION_NAME if is_strict else ANY_FUNCTION_NAME
    name: str = check(f"{param}.name", function["name"])
    return ToolCall(call_id, name, _arguments(param, function, is_strict=is_strict))


def _arguments(param: str, function: Mapping[str, Any], *, is_strict: bool) -> str:
    """The text of the arguments; some clients leave them out, or send the object itself."""
    arguments = function.get("arguments")
    if not is_strict:
        if arguments is None:
            return "{}"
        if isinstance(arguments, dict):
            return _object_text(f"{param}.arguments", arguments)
    if arguments is None:
        raise problems.missing(f"{param}.arguments")
    text: str = _check_text(f"{param}.arguments", arguments)
    return text


def _object_text(param: str, arguments: Mapping[str, Any]) -> str:
    try:
        return orjson.dumps(arguments).decode()
    except orjson.JSONEncodeError:
        message = f"Invalid '{param}': the object is nested too deeply."
        raise problems.refused(message, param, "invalid_value") from None


def _missing_call_id(param: str) -> ServiceError:
    message = (
        "Missing parameter 'tool_call_id': messages with role 'tool' must have a 'tool_call_id'."
    )
    return problems.refused(message, param.replace("messages[", "messages.["))


def _unanswered(index: int, call_ids: Iterable[str]) -> ServiceError:
    ids = problems.shown(", ".join(sorted(call_ids)), 1000)
    return problems.refused(
        "An assistant message with 'tool_calls' must be followed by tool messages responding to "
        f"each 'tool_call_id'. The following tool_call_ids did not have response messages: {ids}",
        f"messages.[{index}].role",
    )

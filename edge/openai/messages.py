"""The conversation of a request: roles, names, and content as text.

Text parts are joined without anything between them. What a later version will carry (tool calls,
images, audio) is refused by name; keys of a message that mean nothing here are reported back.
"""

from collections.abc import Mapping
from typing import Any

from edge.openai import checks, problems
from headrace.client.answers import ChatMessage

MAX_MESSAGES = 2048
_ROLES = ("system", "developer", "user", "assistant", "tool", "function")
_CARRIED_ROLES = frozenset(_ROLES[:4])
_PART_TYPES = ("text", "refusal", "image_url", "input_audio", "file")
_KNOWN_KEYS = frozenset(
    ("role", "content", "name", "refusal", "tool_calls", "function_call", "audio")
)
_REFUSED_KEYS = ("tool_calls", "function_call", "audio")
_check_role = checks.one_of(*_ROLES)
_check_name = checks.string(64, least=1, pattern=r"[^\s<|\\/>]+")
_check_text = checks.string()


def parse_messages(value: Any, ignored: set[str]) -> tuple[ChatMessage, ...]:
    """Validate `messages`; adds the names of keys without effect to `ignored`.

    Raises ServiceError naming the message, as in `messages[0].content`.
    """
    if not isinstance(value, list):
        raise problems.wrong_type("messages", "an array of objects", value)
    if not value:
        raise problems.empty_array("messages")
    if len(value) > MAX_MESSAGES:
        raise problems.array_too_long("messages", MAX_MESSAGES, len(value))
    return tuple(
        _parse_message(f"messages[{index}]", item, ignored) for index, item in enumerate(value)
    )


def _parse_message(param: str, value: Any, ignored: set[str]) -> ChatMessage:
    message = checks.json_object(param, value)
    if message.get("role") is None:
        raise problems.missing(f"{param}.role")
    role = _check_role(f"{param}.role", message["role"])
    if role not in _CARRIED_ROLES:
        raise problems.unsupported_value(f"{param}.role", role)
    for key in _REFUSED_KEYS:
        if message.get(key):
            raise problems.unsupported_parameter(f"{param}.{key}")
    name = message.get("name")
    if name is not None:
        name = _check_name(f"{param}.name", name)
    ignored.update(f"messages[].{key}" for key in message.keys() - _KNOWN_KEYS)
    return ChatMessage(role, _parse_content(param, role, message), name)


def _parse_content(param: str, role: str, message: Mapping[str, Any]) -> str:
    content = message.get("content")
    param_content = f"{param}.content"
    if content is None:
        return _stand_in_content(param, role, message)
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise problems.wrong_type(param_content, "one of a string or array of objects", content)
    if not content:
        raise problems.empty_array(param_content)
    if len(content) > MAX_MESSAGES:
        raise problems.array_too_long(param_content, MAX_MESSAGES, len(content))
    return "".join(
        _parse_part(f"{param_content}[{index}]", part, role) for index, part in enumerate(content)
    )


def _stand_in_content(param: str, role: str, message: Mapping[str, Any]) -> str:
    """Null content is legal only where an assistant's refusal says what it said instead."""
    if role == "assistant" and message.get("refusal") is not None:
        refusal: str = _check_text(f"{param}.refusal", message["refusal"])
        return refusal
    if "content" not in message:
        raise problems.missing(f"{param}.content")
    raise problems.wrong_type(f"{param}.content", "one of a string or array of objects", None)


def _parse_part(param: str, value: Any, role: str) -> str:
    part = checks.json_object(param, value)
    kind = part.get("type")
    if kind is None:
        raise problems.missing(f"{param}.type")
    if not isinstance(kind, str):
        raise problems.wrong_type(f"{param}.type", "a string", kind)
    if kind not in _PART_TYPES:
        raise problems.unknown_value(f"{param}.type", kind, _PART_TYPES)
    if kind != "text" and (kind != "refusal" or role != "assistant"):
        raise problems.unsupported_value(f"{param}.type", kind)
    if part.get(kind) is None:
        raise problems.missing(f"{param}.{kind}")
    text: str = _check_text(f"{param}.{kind}", part[kind])
    return text

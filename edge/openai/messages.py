"""The conversation of a request: roles, names, content as text, tool calls and their results.

Text parts are joined without anything between them. Null is absent. Keys that mean nothing in a
message of that role are reported back; images, audio and files are refused by name.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from edge.openai import checks, problems
from edge.openai.tool_history import (
    MAX_CONVERSATION_CALLS,
    check_pairing,
    parse_function_call,
    parse_tool_call_id,
    parse_tool_calls,
)
from headrace.client.prompt_request import ChatMessage, ToolCall

MAX_MESSAGES = 2048
MAX_TOLD_KEYS = 256
ROLES = ("system", "developer", "user", "assistant", "tool", "function")
_SYSTEM_ROLES = frozenset(("system", "developer"))
_PART_TYPES = ("text", "refusal", "image_url", "input_audio", "file")
COMMON_KEYS = frozenset(("role", "content", "name"))
_ASSISTANT_KEYS = frozenset(
    ("refusal", "tool_calls", "function_call", "audio", "reasoning_content")
)
KNOWN_KEYS = {
    "assistant": COMMON_KEYS | _ASSISTANT_KEYS,
    "tool": COMMON_KEYS | {"tool_call_id"},
}
_CONTENT_TYPES = "one of a string or array of objects"
_check_role = checks.one_of(*ROLES)
MESSAGE_NAME = checks.string(64, least=1, pattern=r"[^\s<|\\/>]+")
ANY_MESSAGE_NAME = checks.string(256)
_check_text = checks.string()


@dataclass(frozen=True, slots=True)
class MessageRules:
    """How exact a conversation must be.

    `is_strict`: as OpenAI's API has it; otherwise names are any texts, ids may be missing, and
    calls and results need not belong together. `system_first_only`: a system (or developer)
    message may only be the first.
    """

    is_strict: bool = True
    system_first_only: bool = False


def parse_messages(
    value: Any, ignored: set[str], *, rules: MessageRules | None = None
) -> tuple[ChatMessage, ...]:
    """Validate `messages`; adds the names of keys without effect to `ignored`, up to a few hundred.

    Raises ServiceError naming the message, as in `messages[0].content`.
    """
    if not isinstance(value, list):
        raise problems.wrong_type("messages", "an array of objects", value)
    if not value:
        raise problems.empty_array("messages")
    if len(value) > MAX_MESSAGES:
        raise problems.array_too_long("messages", MAX_MESSAGES, len(value))
    parser = _MessageParser(rules or MessageRules(), ignored)
    messages = tuple(parser.message(index, item) for index, item in enumerate(value))
    if parser.rules.is_strict:
        check_pairing(messages)
    return messages


class _MessageParser:
    """The messages of one request, one after another."""

    def __init__(self, rules: MessageRules, ignored: set[str]) -> None:
        self.rules = rules
        self._ignored = ignored
        self._num_calls = 0

    def message(self, index: int, value: Any) -> ChatMessage:
        param = f"messages[{index}]"
        message = checks.json_object(param, value)
        if message.get("role") is None:
            raise problems.missing(f"{param}.role")
        role: str = _check_role(f"{param}.role", message["role"])
        if index and role in _SYSTEM_ROLES and self.rules.system_first_only:
            raise problems.refused(
                f"Invalid '{param}.role': system messages are only allowed as the first message.",
                f"{param}.role",
                "invalid_value",
            )
        self._report(role, message)
        name = self._name(f"{param}.name", role, message.get("name"))
        if role == "assistant":
            return self._assistant(param, message, name)
        return ChatMessage(
            role,
            _parse_content(param, role, message),
            name,
            tool_call_id=self._tool_call_id(param, message) if role == "tool" else None,
        )

    def _report(self, role: str, message: Mapping[str, Any]) -> None:
        if len(self._ignored) > MAX_TOLD_KEYS:
            # Nobody reads so many, and each would take its time.
            return
        unknown = message.keys() - KNOWN_KEYS.get(role, COMMON_KEYS)
        self._ignored.update(f"messages[].{key}" for key in unknown if message[key] is not None)

    def _name(self, param: str, role: str, value: Any) -> str | None:
        if value is None:
            if role == "function" and self.rules.is_strict:
                raise problems.missing(param)
            return None
        check = MESSAGE_NAME if self.rules.is_strict else ANY_MESSAGE_NAME
        return check(param, value) or None

    def _tool_call_id(self, param: str, message: Mapping[str, Any]) -> str | None:
        return parse_tool_call_id(
            f"{param}.tool_call_id", message.get("tool_call_id"), is_strict=self.rules.is_strict
        )

    def _assistant(self, param: str, message: Mapping[str, Any], name: str | None) -> ChatMessage:
        if message.get("audio") is not None:
            raise problems.unsupported_parameter(f"{param}.audio")
        calls = self._calls(param, message)
        refusal = _optional_text(f"{param}.refusal", message)
        reasoning = _optional_text(f"{param}.reasoning_content", message)
        needs_content = self.rules.is_strict and not (calls or refusal or reasoning)
        content = None
        if message.get("content") is not None or needs_content:
            content = _parse_content(param, "assistant", message)
        return ChatMessage(
            "assistant",
            content,
            name,
            tool_calls=calls,
            refusal=refusal,
            reasoning_content=reasoning,
        )

    def _calls(self, param: str, message: Mapping[str, Any]) -> tuple[ToolCall, ...]:
        is_strict = self.rules.is_strict
        calls: tuple[ToolCall, ...] = ()
        if message.get("tool_calls") is not None:
            name = f"{param}.tool_calls"
            calls = parse_tool_calls(name, message["tool_calls"], is_strict=is_strict)
        if message.get("function_call") is not None:
            name = f"{param}.function_call"
            call = parse_function_call(name, message["function_call"], is_strict=is_strict)
            calls = (*calls, call)
        self._num_calls += len(calls)
        if self._num_calls > MAX_CONVERSATION_CALLS:
            message_text = f"The messages have more than {MAX_CONVERSATION_CALLS} tool calls."
            raise problems.refused(message_text, "messages", "array_above_max_length")
        return calls


def _optional_text(param: str, message: Mapping[str, Any]) -> str | None:
    """A field of an assistant's message; empty is absent."""
    value = message.get(param.rpartition(".")[2])
    return None if value is None else _check_text(param, value) or None


def _parse_content(param: str, role: str, message: Mapping[str, Any]) -> str | None:
    content = message.get("content")
    param_content = f"{param}.content"
    if content is None:
        _check_null_content(param_content, role, message)
        return None
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise problems.wrong_type(param_content, _CONTENT_TYPES, content)
    if not content:
        raise problems.empty_array(param_content)
    if len(content) > MAX_MESSAGES:
        raise problems.array_too_long(param_content, MAX_MESSAGES, len(content))
    return "".join(
        _parse_part(f"{param_content}[{index}]", part, role) for index, part in enumerate(content)
    )


def _check_null_content(param: str, role: str, message: Mapping[str, Any]) -> None:
    """Null is legal for a function's result, and for an assistant that said something else."""
    if "content" not in message:
        raise problems.missing(param)
    if role != "function":
        raise problems.wrong_type(param, _CONTENT_TYPES, None)


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

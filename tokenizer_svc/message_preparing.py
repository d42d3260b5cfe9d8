"""Messages in the one form that the rest works with, before anything is rewritten.

A refusal is content; a function message is a tool message; every call has an id and every result
names one; arguments are what the template wants them to be. All of it depends on what the client
wrote, which is why it comes before special tokens are masked.
"""

from collections.abc import Mapping, Sequence
from hashlib import blake2b
from typing import Any

from tokenizer_svc.json_objects import parsed_object
from tokenizer_svc.message_mapping import TemplateMessage
from tokenizer_svc.template_support import SHORT_ID_CHARACTERS, TemplateSupport

_SHORT_ID_ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
SEPARATOR = "\n\n"


def prepared(
    messages: Sequence[TemplateMessage], support: TemplateSupport
) -> list[TemplateMessage]:
    """The messages in that form; those that are in it already are the same objects."""
    preparing = _Preparing(support)
    return [preparing.message(index, message) for index, message in enumerate(messages)]


def parsed_arguments(text: str) -> dict[str, Any] | str:
    """The object where the text is that of a JSON object and nothing of it would be lost."""
    try:
        return parsed_object(text)
    except ValueError:
        return text


class _Preparing:
    """Goes through one conversation; keeps which calls wait for their results."""

    def __init__(self, support: TemplateSupport) -> None:
        self._reasoning_field = support.reasoning_field
        tools = support.tools
        self._are_parsed = tools is None or tools.object_arguments
        self._has_short_ids = tools is not None and tools.short_ids
        self._names_results = tools is None or tools.names_results
        self._waiting: list[tuple[str, str]] = []  # id and name, oldest first
        self._names: dict[str, str] = {}

    def message(self, index: int, message: TemplateMessage) -> TemplateMessage:
        if message["role"] in ("tool", "function"):
            return self._result(message)
        if message["role"] != "assistant":
            return message
        message = self._reasoned(_with_refusal(message))
        if not message.get("tool_calls"):
            return message
        return {**message, "tool_calls": self._calls(index, message["tool_calls"])}

    def _reasoned(self, message: TemplateMessage) -> TemplateMessage:
        if "reasoning_content" not in message or self._reasoning_field == "reasoning_content":
            return message
        renamed = {key: value for key, value in message.items() if key != "reasoning_content"}
        if self._reasoning_field is not None:
            renamed[self._reasoning_field] = message["reasoning_content"]
        return renamed

    def _calls(self, index: int, calls: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
        self._waiting.clear()
        changed: list[Mapping[str, Any]] = []
        for place, call in enumerate(calls):
            call_id, function = call["id"] or f"call_{index}_{place}", call["function"]
            self._waiting.append((call_id, function["name"]))
            self._names[call_id] = function["name"]
            if self._are_parsed:
                arguments = parsed_arguments(function["arguments"])
                function = {**function, "arguments": arguments}
            changed.append({**call, "id": self._id(call_id), "function": function})
        return changed

    def _result(self, message: TemplateMessage) -> TemplateMessage:
        call_id = message.get("tool_call_id") or self._oldest(message.get("name"))
        self._waiting = [call for call in self._waiting if call[0] != call_id]
        changed = {key: value for key, value in message.items() if key != "tool_call_id"}
        changed["role"] = "tool"
        if call_id is not None:
            changed["tool_call_id"] = self._id(call_id)
            if self._names_results and call_id in self._names:
                changed.setdefault("name", self._names[call_id])
        return changed

    def _oldest(self, name: str | None) -> str | None:
        """The oldest call without a result; by its name where the result has one."""
        return next((call[0] for call in self._waiting if name in (None, call[1])), None)

    def _id(self, call_id: str) -> str:
        """The id; in templates that take no other, nine letters and digits that stand for it."""
        if not self._has_short_ids or (
            len(call_id) == SHORT_ID_CHARACTERS and call_id.isascii() and call_id.isalnum()
        ):
            return call_id
        number = int.from_bytes(blake2b(call_id.encode(), digest_size=8).digest())
        digits = []
        for _ in range(SHORT_ID_CHARACTERS):
            number, digit = divmod(number, len(_SHORT_ID_ALPHABET))
            digits.append(_SHORT_ID_ALPHABET[digit])
        return "".join(digits)


def _with_refusal(message: TemplateMessage) -> TemplateMessage:
    if "refusal" not in message:
        return message
    texts = [message["content"], message["refusal"]]
    changed = {key: value for key, value in message.items() if key != "refusal"}
    return {**changed, "content": SEPARATOR.join(filter(None, texts))}

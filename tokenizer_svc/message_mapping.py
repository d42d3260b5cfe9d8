"""Messages on the wire to what chat templates read: dictionaries in the form of OpenAI's API.

A key is there only where the caller set it: templates ask `'tool_calls' in message`. Raises
ServiceError that names the message.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal, NoReturn, TypeAlias, get_args

from headrace.common.v1 import errors_pb2
from headrace.rpc.errors import ServiceError
from headrace.tokenizer.v1.render_pb2 import Message, ToolCall
from tokenizer_svc.json_objects import gather_texts, with_changed_texts

TemplateMessage: TypeAlias = Mapping[str, Any]

MAX_TOOL_CALLS = 128
MAX_CONVERSATION_CALLS = 4096
_ROLES = ("system", "developer", "user", "assistant", "tool", "function")
_OptionalText: TypeAlias = Literal["name", "tool_call_id", "refusal", "reasoning_content"]
_OPTIONAL_TEXTS: tuple[_OptionalText, ...] = get_args(_OptionalText)
# Fields that only one role has.
_OWNERS = {"tool_call_id": "tool", "refusal": "assistant", "reasoning_content": "assistant"}


def template_messages(messages: Iterable[Message]) -> list[TemplateMessage]:
    """Messages as a chat template sees them: content null where unset, the rest only where set."""
    mapped: list[TemplateMessage] = []
    calls = 0
    for index, message in enumerate(messages):
        calls += len(message.tool_calls)
        if calls > MAX_CONVERSATION_CALLS:
            _refuse(f"messages has more than {MAX_CONVERSATION_CALLS} tool calls.")
        mapped.append(_template_message(index, message))
    if not mapped:
        _refuse("messages is empty; at least one message is needed.")
    return mapped


def num_characters(messages: Sequence[TemplateMessage]) -> int:
    """Characters that the client wrote."""
    return sum(map(len, client_texts(messages)))


def client_texts(messages: Iterable[TemplateMessage]) -> list[str]:
    """Every text that the client wrote; roles and the keys of messages are a closed set."""
    texts: list[str] = []
    for message in messages:
        gather_texts(_client_parts(message), texts)
    return texts


def changed_texts(message: TemplateMessage, change: Callable[[str], str]) -> TemplateMessage:
    """The message with every text that the client wrote changed."""
    changed = {
        key: change(value) if isinstance(value, str) and key != "role" else value
        for key, value in message.items()
    }
    if "tool_calls" in message:
        changed["tool_calls"] = [_changed_call(call, change) for call in message["tool_calls"]]
    return changed


def _client_parts(message: TemplateMessage) -> Iterator[Any]:
    for key, value in message.items():
        if key == "tool_calls":
            for call in value:
                yield call["id"]
                yield from call["function"].values()
        elif key != "role":
            yield value


def _changed_call(call: Mapping[str, Any], change: Callable[[str], str]) -> Mapping[str, Any]:
    function = {key: with_changed_texts(value, change) for key, value in call["function"].items()}
    return {**call, "id": change(call["id"]), "function": function}


def _template_message(index: int, message: Message) -> TemplateMessage:
    if message.role not in _ROLES:
        _refuse(f"messages[{index}].role is `{message.role[:32]}`; known are {', '.join(_ROLES)}.")
    content = message.content if message.HasField("content") else None
    mapped: dict[str, Any] = {"role": message.role, "content": content}
    for field in _OPTIONAL_TEXTS:
        if message.HasField(field):
            owner = _OWNERS.get(field, message.role)
            if message.role != owner:
                _refuse(f"messages[{index}].{field} is for the role {owner}, not {message.role}.")
            mapped[field] = getattr(message, field)
    if message.tool_calls:
        mapped["tool_calls"] = _tool_calls(index, message)
    return mapped


def _tool_calls(index: int, message: Message) -> list[TemplateMessage]:
    if message.role != "assistant":
        _refuse(f"messages[{index}].tool_calls is for the role assistant, not {message.role}.")
    if len(message.tool_calls) > MAX_TOOL_CALLS:
        _refuse(
            f"messages[{index}].tool_calls has {len(message.tool_calls)} calls; at most "
            f"{MAX_TOOL_CALLS} are allowed."
        )
    return [
        _tool_call(f"messages[{index}].tool_calls[{place}]", call)
        for place, call in enumerate(message.tool_calls)
    ]


def _tool_call(param: str, call: ToolCall) -> TemplateMessage:
    if not call.name:
        _refuse(f"{param}.name is empty.")
    function = {"name": call.name, "arguments": call.arguments}
    return {"id": call.id, "type": "function", "function": function}


def _refuse(message: str) -> NoReturn:
    raise ServiceError(errors_pb2.ERROR_REASON_INVALID_REQUEST, message, param="messages")

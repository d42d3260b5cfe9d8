"""Requests on the wire to validated values. Raises ServiceError that names the parameter."""

from collections.abc import Iterable, Mapping
from typing import NoReturn

from headrace.common.v1 import errors_pb2
from headrace.rpc.errors import ServiceError
from headrace.tokenizer.v1.detokenize_pb2 import DetokenizeOpen
from headrace.tokenizer.v1.render_pb2 import BlockDigestParams, Message
from tokenizer_svc.settings import LimitSettings

_ROLES = ("system", "developer", "user", "assistant")


def template_messages(messages: Iterable[Message]) -> list[Mapping[str, str | None]]:
    """Messages as a chat template sees them: content null where unset, name only where set."""
    mapped = [_template_message(index, message) for index, message in enumerate(messages)]
    if not mapped:
        _refuse("messages is empty; at least one message is needed.", "messages")
    return mapped


def num_characters(messages: Iterable[Mapping[str, str | None]]) -> int:
    """Characters that the client wrote."""
    return sum(len(text) for message in messages for text in message.values() if text)


def stop_strings(request: DetokenizeOpen, limits: LimitSettings) -> tuple[str, ...]:
    """The output's stop strings, within the limits."""
    stops = tuple(request.stop_strings)
    if len(stops) > limits.max_stop_strings:
        _refuse(
            f"stop has {len(stops)} strings; at most {limits.max_stop_strings} are allowed.", "stop"
        )
    for stop in stops:
        if not stop:
            _refuse("stop has an empty string.", "stop")
        if len(stop) > limits.max_stop_string_characters:
            _refuse(
                f"stop has a string of {len(stop)} characters; at most "
                f"{limits.max_stop_string_characters} are allowed.",
                "stop",
            )
    return stops


def checked_text(text: str, limits: LimitSettings) -> str:
    """A text of Encode or CountTokens, within the limits."""
    if len(text) > limits.max_text_characters:
        message = (
            f"text has {len(text)} characters; at most {limits.max_text_characters} are allowed."
        )
        raise ServiceError(errors_pb2.ERROR_REASON_REQUEST_TOO_LARGE, message, param="text")
    return text


def checked_block_size(params: BlockDigestParams) -> int:
    """Tokens a block, above 0."""
    if not params.block_size:
        _refuse("block_digests.block_size is 0; it must be at least 1.", "block_digests")
    return params.block_size


def _template_message(index: int, message: Message) -> Mapping[str, str | None]:
    if message.role not in _ROLES:
        _refuse(
            f"messages[{index}].role is `{message.role[:32]}`; known are {', '.join(_ROLES)}.",
            "messages",
        )
    mapped: dict[str, str | None] = {"role": message.role, "content": None}
    if message.HasField("content"):
        mapped["content"] = message.content
    if message.HasField("name"):
        mapped["name"] = message.name
    return mapped


def _refuse(message: str, param: str) -> NoReturn:
    raise ServiceError(errors_pb2.ERROR_REASON_INVALID_REQUEST, message, param=param)

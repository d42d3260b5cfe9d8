"""Prompts, answers and functions as the GenAI conventions have them on spans: JSON, within a bound.

Only where the operator switched that on. What does not fit is left out or cut, so that what is
there is JSON all the same: of a conversation the newest stays, of an answer its beginning.
"""

from collections.abc import Callable, Sequence
from typing import Any

import orjson

from edge.openai.chat_request import ChatRequest
from headrace.client.answer_events import (
    AnswerEvent,
    CallArguments,
    CallBegin,
    CallEnd,
    ContentDelta,
    EventWriter,
    LogprobsWriter,
    ReasoningDelta,
    TokenLogprob,
)
from headrace.client.answers import AnswerConsumer, AnswerTimes, Finish, OutputResult
from headrace.client.prompt_request import ChatMessage, Function, ToolCall
from headrace.rpc.errors import ServiceError

MAX_CHARACTERS = 32_768
"""Of the texts of one attribute; markup comes on top."""
MAX_ENTRIES = 256
"""Messages, functions and calls of one attribute."""


class Room:
    """Characters and calls that are left of an attribute's bounds."""

    def __init__(self) -> None:
        self.left = MAX_CHARACTERS
        self._calls_left = MAX_ENTRIES

    def cut(self, text: str) -> str:
        """As much of the text as there is room for."""
        taken = text[: self.left]
        self.left -= len(taken)
        return taken

    def calls(self, wanted: Sequence[ToolCall]) -> Sequence[ToolCall]:
        """As many of a message's calls as there is room for."""
        taken = wanted[: self._calls_left]
        self._calls_left -= len(taken)
        return taken


def input_messages(chat: ChatRequest) -> str:
    """The newest messages, in their order: gen_ai.input.messages."""
    room, found = Room(), []
    for message in reversed(chat.messages[-MAX_ENTRIES:]):
        if room.left <= 0:
            break
        found.append(_input_message(message, room))
    return orjson.dumps(found[::-1]).decode()


def _input_message(message: ChatMessage, room: Room) -> dict[str, Any]:
    parts: list[dict[str, Any]] = []
    text = message.content if message.content is not None else message.refusal
    if message.role in ("tool", "function"):
        response = {"type": "tool_call_response", "response": room.cut(text or "")}
        parts.append({**response, "id": room.cut(message.tool_call_id or "")})
    else:
        if message.reasoning_content:
            parts.append({"type": "reasoning", "content": room.cut(message.reasoning_content)})
        if text:
            parts.append({"type": "text", "content": room.cut(text)})
        parts += [
            _call(call.id, call.name, call.arguments, room)
            for call in room.calls(message.tool_calls)
        ]
    named = {} if message.name is None else {"name": room.cut(message.name)}
    return {"role": message.role, "parts": parts, **named}


def _call(call_id: str, name: str, arguments: str, room: Room) -> dict[str, Any]:
    found = {"type": "tool_call", "id": room.cut(call_id), "name": room.cut(name)}
    return {**found, "arguments": _json(arguments, room)}


def _json(text: str, room: Room) -> Any:
    """The document that the text is; the text itself where it is none, or has no room."""
    taken = room.cut(text)
    if len(taken) < len(text):
        return taken
    try:
        orjson.loads(taken)
    except orjson.JSONDecodeError:
        return taken
    # As it was spelled: what can be read may be nested too deeply to be written again.
    return orjson.Fragment(taken)


def tool_definitions(tools: Sequence[Function]) -> str:
    """What could be called: gen_ai.tool.definitions."""
    room = Room()
    return orjson.dumps([_definition(tool, room) for tool in tools[:MAX_ENTRIES]]).decode()


def _definition(tool: Function, room: Room) -> dict[str, Any]:
    found = {
        "type": "function",
        "name": room.cut(tool.name),
        "description": room.cut(tool.description or ""),
    }
    return {**found, "parameters": _json(tool.parameters, room)} if tool.parameters else found


class _Gathered:
    """One output of one attempt, as far as there was room."""

    def __init__(self, room: Room) -> None:
        self._room = room
        self._parts: list[tuple[str, str, list[str]]] = []  # type, name, pieces

    def text(self, kind: str, text: str, name: str = "") -> None:
        """Go on with a part of a kind, or begin one."""
        if not self._parts or self._parts[-1][0] != kind or name:
            if len(self._parts) >= MAX_ENTRIES:
                self._room.left = 0
                return
            self._parts.append((kind, name, []))
        if self._room.left > 0:
            self._parts[-1][2].append(self._room.cut(text))

    def events(self, events: Sequence[AnswerEvent]) -> None:
        """Go on by these."""
        for event in events:
            match event:
                case ContentDelta():
                    self.text("text", event.text)
                case ReasoningDelta():
                    self.text("reasoning", event.text)
                case CallBegin():
                    self.text("tool_call", "", event.name)
                case CallArguments():
                    self.text("tool_call", event.text)
                case CallEnd():
                    pass

    def message(self, ended: Finish | None) -> dict[str, Any]:
        """The output as a message; the ids of its calls are told to the client alone.

        One that did not end, None, has the conventions' reason `error`.
        """
        has_calls = any(kind == "tool_call" for kind, _, _ in self._parts)
        return {
            "role": "assistant",
            "parts": [
                _call("", name, "".join(pieces), Room())
                if kind == "tool_call"
                else {"type": kind, "content": "".join(pieces)}
                for kind, name, pieces in self._parts
            ],
            "finish_reason": "tool_call" if has_calls and ended == "stop" else ended or "error",
        }


class AnswerCapture:
    """Hands an answer on to its consumer, and keeps what the span will say of it."""

    def __init__(self, consumer: AnswerConsumer, outputs: int) -> None:
        self._consumer = consumer
        self._room = Room()
        self._outputs = [_Gathered(self._room) for _ in range(outputs)]
        self._ended: dict[int, Finish] = {}
        self.on_started: Callable[[AnswerTimes], None] = consumer.on_started
        self.on_done: Callable[[], None] = consumer.on_done
        self.on_error: Callable[[ServiceError], None] = consumer.on_error

    @property
    def has_delivered(self) -> bool:
        """The consumer's word."""
        return self._consumer.has_delivered

    def output_messages(self) -> str:
        """All outputs, as far as they came: gen_ai.output.messages."""
        outputs = enumerate(self._outputs)
        return orjson.dumps(
            [output.message(self._ended.get(index)) for index, output in outputs]
        ).decode()

    def on_finish(self, index: int, result: OutputResult) -> None:
        """Part of AnswerConsumer."""
        self._ended[index] = result.finish_reason
        self._consumer.on_finish(index, result)

    def _begin(self, index: int) -> _Gathered:
        """A new attempt: what an earlier one said is void."""
        if index == 0:
            self._room = Room()
            self._ended.clear()
        self._outputs[index] = gathered = _Gathered(self._room)
        return gathered

    def text_writer(self, index: int) -> Callable[[str], None]:
        """Part of AnswerConsumer."""
        gathered, write = self._begin(index), self._consumer.text_writer(index)

        def keep(text: str) -> None:
            gathered.text("text", text)
            write(text)

        return keep

    def logprobs_writer(self, index: int) -> LogprobsWriter:
        """Part of AnswerConsumer."""
        gathered, write = self._begin(index), self._consumer.logprobs_writer(index)

        def keep(text: str, entries: Sequence[TokenLogprob]) -> None:
            gathered.text("text", text)
            write(text, entries)

        return keep

    def event_writer(self, index: int) -> EventWriter:
        """Part of AnswerConsumer."""
        gathered, write = self._begin(index), self._consumer.event_writer(index)

        def keep(events: Sequence[AnswerEvent], tokens: Sequence[TokenLogprob]) -> None:
            gathered.events(events)
            write(events, tokens)

        return keep

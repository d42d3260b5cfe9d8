"""`EventEncoder`: an output's events as chunks of a streamed answer.

A call's id, type and name are in its first delta alone, its index is in all of them, and the
arguments come as pieces of one string: https://platform.openai.com/docs/api-reference/chat-streaming
A call that the answer begins with is in the role chunk itself.
"""

from collections.abc import Iterator, Sequence
from itertools import groupby

import orjson

from edge.openai.answer import ChunkEncoder, encode_text, escape_separators
from edge.openai.finish import FinishReason
from edge.openai.logprobs import logprobs_object
from headrace.client.answer_events import (
    AnswerEvent,
    CallArguments,
    CallBegin,
    CallEnd,
    ContentDelta,
    ReasoningDelta,
)
from headrace.client.call_ids import mint_call_id

_CONTENT = b'{"content":%b}'
_REASONING = b'{"reasoning_content":%b}'
_FUNCTION_ARGUMENTS = b'{"function_call":{"arguments":%b}}'
_FIRST_CALL = b'{"role":"assistant","content":null,%b,"refusal":null}'


class EventEncoder:
    """Encodes one output's events, of one attempt.

    `is_open`: the output has had its first chunk, the one with the role. `is_open` at the
    beginning: somebody else has written it.
    """

    def __init__(self, chunks: ChunkEncoder, index: int, *, is_open: bool) -> None:
        self.is_open = is_open
        self._chunks = chunks
        self._index = index
        self._is_older_form = chunks.shape.calls_as == "functions"
        self._arguments = _FUNCTION_ARGUMENTS
        self._head, self._between, self._tail = chunks.delta_affixes(index)
        self._plain_tail = self._between + b"null" + self._tail

    def opening(self) -> bytes:
        """The role chunk, if it is still to come."""
        if self.is_open:
            return b""
        self.is_open = True
        return self._chunks.role(self._index)

    def encode(self, events: Sequence[AnswerEvent], entries: bytes = b"") -> bytes:
        """The chunks of these events; the entries of their tokens go with the first of them.

        Entries without an event have a chunk of their own, whose delta says nothing.
        """
        chunks: list[bytes] = []
        for event in events if len(events) == 1 else _joined(events):
            delta = self._delta(event)
            if delta:
                if not self.is_open:  # a call that opens the output has done so by now
                    chunks.append(self.opening())
                chunks.append(self._chunk(delta, entries))
                entries = b""
        if entries:
            chunks += (self.opening(), self._chunk(b"{}", entries))
        return b"".join(chunks)

    def finish(self, reason: FinishReason) -> bytes:
        """The finish chunk, behind the role chunk if that is still to come."""
        return self.opening() + self._chunks.finish(self._index, reason)

    def _delta(self, event: AnswerEvent) -> bytes:
        """Empty where an event is not told."""
        if isinstance(event, CallArguments):
            return self._arguments % encode_text(event.text)
        if isinstance(event, ContentDelta):
            return _CONTENT % encode_text(event.text)
        if isinstance(event, ReasoningDelta):
            return _REASONING % encode_text(event.text)
        return self._begin(event) if isinstance(event, CallBegin) else b""

    def _begin(self, event: CallBegin) -> bytes:
        said = b'"function_call":' if self._is_older_form else b'"tool_calls":'
        said += escape_separators(orjson.dumps(self._call(event)))
        if not self._is_older_form:
            head = b'{"tool_calls":[{"index":%d,"function":{"arguments":' % event.call
            self._arguments = head + b"%b}}]}"
        if self.is_open:
            return b"{%b}" % said
        self.is_open = True
        return _FIRST_CALL % said

    def _call(self, event: CallBegin) -> object:
        function = {"name": event.name, "arguments": ""}
        if self._is_older_form:
            return function
        call = {"index": event.call, "id": mint_call_id(), "type": "function", "function": function}
        return [call]

    def _chunk(self, delta: bytes, entries: bytes) -> bytes:
        if not entries:
            return self._head + delta + self._plain_tail
        logprobs = logprobs_object((entries,))
        return b"".join((self._head, delta, self._between, logprobs, self._tail))


def _joined(events: Sequence[AnswerEvent]) -> Iterator[AnswerEvent]:
    """The events with neighbours of the same kind, and of the same call, in one."""
    for _, run in groupby(events, key=_kind):
        first, *others = run
        if isinstance(first, CallBegin | CallEnd):
            yield first
            yield from others
        elif others:
            texts = [event.text for event in others if isinstance(event, type(first))]
            yield first._replace(text="".join((first.text, *texts)))
        else:
            yield first


def _kind(event: AnswerEvent) -> tuple[type[AnswerEvent], int]:
    if isinstance(event, ContentDelta | ReasoningDelta):
        return type(event), 0
    return type(event), event.call

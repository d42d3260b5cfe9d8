"""The frame under construction from the tokenizer to one edge."""

from collections.abc import Sequence

from headrace.rpc.errors import failure_from_error
from headrace.rpc.limits import MERGE_BYTES
from headrace.rpc.outbox import ARRAY_ENTRY_BYTES, RollingOutbox
from headrace.tokenizer.v1.detokenize_pb2 import (
    DetokenizeFailure,
    DetokenizeResponse,
    OutputDelta,
    StopHit,
    TokenBytes,
    ToolCallArguments,
    ToolCallBegin,
    ToolCallEnd,
)
from tokenizer_svc.formats.events import EventKind, OutputEvent
from tokenizer_svc.outputs import Answers
from tokenizer_svc.spelling_detokenizer import SpelledToken

# A handle of at most 10 bytes, two counts of 5, tag and length of the text.
_ENTRY_BYTES = 26
_STOP_HIT_BYTES = 24
# Most bytes that a character has in UTF-8.
_CHARACTER_BYTES = 4
# Most tokens in an entry: with twenty long alternatives each it is still far below a message.
_SPELLED_TOKENS = 512


class DetokenizeOutbox(RollingOutbox[DetokenizeResponse]):
    """Entries of detokenize.proto's DetokenizeResponse."""

    def __init__(self) -> None:
        super().__init__(DetokenizeResponse)

    def add(self, answers: Answers, num_tokens: int) -> None:
        """Add what one request frame of `num_tokens` tokens made, in the order of the contract."""
        for handle, spelled in answers.spelled:
            for start in range(0, len(spelled), _SPELLED_TOKENS):
                entry = token_bytes(handle, spelled[start : start + _SPELLED_TOKENS])
                self._room_for(entry.ByteSize() + 4).token_bytes.append(entry)
        for handle, events, reasoning_tokens in answers.events:
            for delta in output_deltas(handle, events, reasoning_tokens):
                self._room_for(delta.ByteSize() + 6).output_deltas.append(delta)
        self._add_entries(answers, num_tokens)
        for handle, stop_index, consumed in answers.stop_hits:
            hit = StopHit(handle=handle, stop_index=stop_index, consumed_tokens=consumed)
            self._room_for(_STOP_HIT_BYTES).stop_hits.append(hit)
        for handle in answers.closed_handles:
            self._room_for(ARRAY_ENTRY_BYTES).closed_handles.append(handle)
        for handle, error in answers.failures:
            failure = DetokenizeFailure(handle=handle, failure=failure_from_error(error))
            self._room_for(failure.ByteSize() + 4).failures.append(failure)

    def _add_entries(self, answers: Answers, num_tokens: int) -> None:
        if not answers.handles:
            return
        size = _ENTRY_BYTES * len(answers.handles)
        size += _CHARACTER_BYTES * sum(map(len, answers.deltas))
        if size > MERGE_BYTES:
            self._add_single_entries(answers)
            return
        frame = self._room_for(size, num_tokens)
        frame.handles.extend(answers.handles)
        frame.consumed_tokens.extend(answers.consumed_tokens)
        frame.released_tokens.extend(answers.released_tokens)
        frame.deltas.extend(answers.deltas)

    def _add_single_entries(self, answers: Answers) -> None:
        # Together they would fill more than a frame.
        rows = zip(
            answers.handles,
            answers.consumed_tokens,
            answers.released_tokens,
            answers.deltas,
            strict=True,
        )
        for handle, consumed, released, delta in rows:
            frame = self._room_for(_ENTRY_BYTES + _CHARACTER_BYTES * len(delta), 1)
            frame.handles.append(handle)
            frame.consumed_tokens.append(consumed)
            frame.released_tokens.append(released)
            frame.deltas.append(delta)


def output_deltas(
    handle: int, events: Sequence[OutputEvent], reasoning_tokens: int
) -> list[OutputDelta]:
    """An entry's events on the wire, each with the count; without events the count alone."""
    deltas = [_output_delta(handle, event) for event in events] or [OutputDelta(handle=handle)]
    if reasoning_tokens:
        for delta in deltas:
            delta.reasoning_tokens = reasoning_tokens
    return deltas


def _output_delta(handle: int, event: OutputEvent) -> OutputDelta:
    call, text = event.call, event.text
    match event.kind:
        case EventKind.CONTENT:
            return OutputDelta(handle=handle, content=text)
        case EventKind.REASONING:
            return OutputDelta(handle=handle, reasoning=text)
        case EventKind.CALL_BEGIN:
            begin = ToolCallBegin(index=call, name=text)
            return OutputDelta(handle=handle, tool_call_begin=begin)
        case EventKind.ARGUMENTS:
            arguments = ToolCallArguments(index=call, text=text)
            return OutputDelta(handle=handle, arguments=arguments)
        case EventKind.CALL_END | EventKind.CALL_BROKEN:
            end = ToolCallEnd(index=call, is_complete=event.kind is EventKind.CALL_END)
            return OutputDelta(handle=handle, tool_call_end=end)


def token_bytes(handle: int, tokens: Sequence[SpelledToken]) -> TokenBytes:
    """An output's newly released tokens, as flat arrays."""
    alternatives = [each for token in tokens for each in token.alternatives]
    return TokenBytes(
        handle=handle,
        lengths=[len(token.spelled) for token in tokens],
        spelled=b"".join(token.spelled for token in tokens),
        alternative_lengths=map(len, alternatives),
        alternatives=b"".join(alternatives),
    )

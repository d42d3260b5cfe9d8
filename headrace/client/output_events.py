"""One output's events, from the tokenizer's frames to its consumer, and the tokens they came of.

Events wait until an entry acknowledges them, and then go on together: one call an entry. With log
probabilities all released tokens that have text go along, markup and thoughts included.
"""

from collections.abc import Callable

from headrace.client.answer_events import (
    AnswerEvent,
    CallArguments,
    CallBegin,
    CallEnd,
    ContentDelta,
    EventWriter,
    ReasoningDelta,
)
from headrace.client.logprobs import TokenJoin
from headrace.common.v1 import errors_pb2
from headrace.rpc.errors import ServiceError
from headrace.rpc.frame_stream import FrameViolationError
from headrace.tokenizer.v1.detokenize_pb2 import OutputDelta


class OutputEvents:
    """Takes what the tokenizer says and hands it on in its order, nothing twice.

    `reasoning_tokens` are those of the thoughts so far. `fail` is told where the output ends within
    a call, which the tokenizer never says.
    """

    __slots__ = (
        "_fail",
        "_is_open",
        "_known_calls",
        "_num_calls",
        "_tokens",
        "_waiting",
        "_write",
        "reasoning_tokens",
    )

    def __init__(
        self, write: EventWriter, tokens: TokenJoin | None, fail: Callable[[ServiceError], None]
    ) -> None:
        """`tokens` None: log probabilities were not asked for."""
        self._write = write
        self._tokens = tokens
        self._fail = fail
        self._waiting: list[AnswerEvent] = []
        self._num_calls = 0  # that have begun
        self._is_open = False  # the last of them
        self._known_calls = (0, False)  # both, as the last acknowledged event left them
        self.reasoning_tokens = 0

    def add(self, delta: OutputDelta) -> None:
        """Take the next piece. Raises FrameViolationError for one that cannot follow."""
        self.reasoning_tokens = delta.reasoning_tokens
        match delta.WhichOneof("event"):
            case "content":
                self._waiting.append(ContentDelta(delta.content))
            case "reasoning":
                self._waiting.append(ReasoningDelta(delta.reasoning))
            case "tool_call_begin":
                begin = delta.tool_call_begin
                self._begin(begin.index, begin.name)
            case "arguments":
                call = self._open_call(delta.arguments.index)
                self._waiting.append(CallArguments(call, delta.arguments.text))
            case "tool_call_end":
                end = delta.tool_call_end
                self._waiting.append(CallEnd(self._open_call(end.index), end.is_complete))
                self._is_open = False
            case None:  # the count alone
                pass

    def release(self, released_tokens: int) -> None:
        """An entry with so many released tokens acknowledges what has come."""
        self._known_calls = (self._num_calls, self._is_open)
        if self._waiting:
            self._hand_on(released_tokens)

    def rewind(self) -> None:
        """Another tokenizer says once more what has not been acknowledged."""
        self._waiting.clear()
        self._num_calls, self._is_open = self._known_calls

    def finish(self, released_tokens: int) -> None:
        """The output ended: hand on what is left."""
        if self._is_open:
            message = f"The tokenizer ended the answer within call {self._num_calls - 1}."
            self._fail(ServiceError(errors_pb2.ERROR_REASON_INCOMPATIBLE_PEER, message))
        else:
            self._hand_on(released_tokens, is_last=True)

    def _begin(self, index: int, name: str) -> None:
        if self._is_open or index != self._num_calls:
            state = "open" if self._is_open else "ended"
            raise FrameViolationError(
                f"the tokenizer began call {index} after {self._num_calls} calls, the last {state}"
            )
        self._num_calls += 1
        self._is_open = True
        self._waiting.append(CallBegin(index, name))

    def _open_call(self, index: int) -> int:
        """The open call's number, which `index` must be."""
        if not self._is_open or index != self._num_calls - 1:
            raise FrameViolationError(f"the tokenizer went on with call {index}, which is not open")
        return index

    def _hand_on(self, released_tokens: int, *, is_last: bool = False) -> None:
        tokens = () if self._tokens is None else self._tokens.take(released_tokens, is_last=is_last)
        if tokens is not None and (self._waiting or tokens):
            events, self._waiting = self._waiting, []
            self._write(events, tokens)

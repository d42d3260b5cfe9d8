"""`MessageParts`: what an output's events make of the message of a whole answer."""

from collections.abc import Sequence

from edge.openai.answer import FinishedCall, FinishedOutput
from edge.openai.answer_shape import AnswerShape
from edge.openai.call_tally import CallTally
from headrace.client.answer_events import (
    AnswerEvent,
    CallArguments,
    CallBegin,
    ContentDelta,
    ReasoningDelta,
)
from headrace.client.answers import Finish


class MessageParts:
    """Gathers one output's events, of one attempt."""

    __slots__ = ("_calls", "_contents", "_thoughts", "tally")

    def __init__(self, shape: AnswerShape) -> None:
        self.tally = CallTally(shape)
        self._contents: list[str] = []
        self._thoughts: list[str] = []
        self._calls: list[tuple[str, list[str]]] = []

    def take(self, events: Sequence[AnswerEvent]) -> None:
        """Go on by these events."""
        for event in self.tally.admit(events):
            if isinstance(event, ContentDelta):
                self._contents.append(event.text)
            elif isinstance(event, ReasoningDelta):
                self._thoughts.append(event.text)
            elif isinstance(event, CallBegin):
                self._calls.append((event.name, []))
            elif isinstance(event, CallArguments):
                self._calls[-1][1].append(event.text)

    def finished(self, ended: Finish, logprobs: bytes | None) -> FinishedOutput:
        """The output with all its parts; `logprobs` is the choice's, encoded."""
        return FinishedOutput(
            "".join(self._contents),
            self.tally.finish_reason(ended),
            logprobs,
            "".join(self._thoughts),
            tuple(FinishedCall(name, "".join(pieces)) for name, pieces in self._calls),
        )

"""`CallTally`: which of an output's calls are told, and how many of them are complete."""

from collections.abc import Iterator, Sequence

from edge.openai.answer_shape import AnswerShape
from edge.openai.finish import FinishReason, finish_reason
from headrace.client.answer_events import (
    AnswerEvent,
    CallBegin,
    CallEnd,
    ContentDelta,
    ReasoningDelta,
)
from headrace.client.answers import Finish


class CallTally:
    """Counts the calls of one output, of one attempt.

    The older form has room for one call. A guide sees to it that there is no second one; where a
    model has none, later calls are left out, and `num_dropped` says so for the log.
    """

    __slots__ = ("_has_room_for_one", "_num_complete", "_shape", "num_begun", "num_dropped")

    def __init__(self, shape: AnswerShape) -> None:
        self._shape = shape
        self._has_room_for_one = shape.calls_as == "functions"
        self._num_complete = 0
        self.num_begun = 0
        self.num_dropped = 0

    def admit(self, events: Sequence[AnswerEvent]) -> Sequence[AnswerEvent]:
        """Count what the events say of calls; returns those that are told."""
        if self._has_room_for_one:
            events = list(self._of_first_call(events))
        for event in events:
            if isinstance(event, CallBegin):
                self.num_begun += 1
            elif isinstance(event, CallEnd):
                self._num_complete += event.is_complete
        return events

    def _of_first_call(self, events: Sequence[AnswerEvent]) -> Iterator[AnswerEvent]:
        for event in events:
            if isinstance(event, ContentDelta | ReasoningDelta) or event.call == 0:
                yield event
            else:
                self.num_dropped += isinstance(event, CallBegin)

    def finish_reason(self, ended: Finish) -> FinishReason:
        """What the choice's finish says."""
        return finish_reason(ended, self._num_complete, self._shape)

"""Thoughts between <think> and </think> in front of an answer, which another parser reads.

The block is the output's first, or there is none: later tags are what the other parser makes of
them. It may have been opened at the prompt's end. As the templates write it, one line break behind
<think>, one in front of </think> and two behind it are markup. Without </think> all of the block is
thoughts. Source: the chat templates of DeepSeek R1 and Qwen 3.
"""

from tokenizer_svc.formats.events import EventKind, OutputEvent
from tokenizer_svc.formats.parser import OutputParser, Reading
from tokenizer_svc.formats.seam import EventParser

OPEN, CLOSE = "<think>", "</think>"


class ReasoningParser(OutputParser):
    """The state of one output. `begins_inside`: it begins with thoughts, marked or not."""

    def __init__(self, answer: EventParser, *, begins_inside: bool) -> None:
        super().__init__()
        self._answer = answer
        self._begins_inside = begins_inside
        self._answer_start: int | None = None

    @property
    def settled(self) -> int:
        """Up to which character the output is decided and said; the rest is held back."""
        if self._answer_start is None:
            return super().settled
        return self._answer_start + self._answer.settled

    @property
    def thoughts_end(self) -> int | None:
        """Where the answer begins; None until that is decided."""
        return self._answer_start

    def _read(self) -> Reading:
        yield from self._skip_optional()
        is_marked = (yield from self._finds((OPEN,))) is not None
        if is_marked or self._begins_inside:
            yield from self._read_thoughts(is_marked=is_marked)
        self._at = self._mark
        self._answer_start = self._base + self._at
        yield from self._read_answer()

    def _read_thoughts(self, *, is_marked: bool) -> Reading:
        if not is_marked:
            self._at = self._mark
        yield from self._finds(("\n",))
        self._drop()
        if (yield from self._pass_up_to(("\n" + CLOSE, CLOSE), self._pass_thoughts)) is not None:
            for _ in range(2):
                yield from self._finds(("\n",))
        self._drop()

    def _read_answer(self) -> Reading:
        while True:
            piece = self._buffer[self._at :]
            self._at = len(self._buffer)
            self._drop()
            if piece:
                self._take(self._answer.feed(piece))
            if self._has_ended:
                self._take(self._answer.finish())
                return
            yield

    def _take(self, events: list[OutputEvent]) -> None:
        start = self._answer_start or 0
        self._events += (event._replace(end=event.end + start) for event in events)

    def _pass_thoughts(self) -> None:
        self._pass(EventKind.REASONING)

"""What a parser makes of a model's output: content, thoughts, tool calls, in order."""

from enum import Enum
from typing import NamedTuple


class EventKind(Enum):
    """What an event adds to the answer."""

    CONTENT = "content"
    REASONING = "reasoning"
    CALL_BEGIN = "call_begin"
    ARGUMENTS = "arguments"
    CALL_END = "call_end"
    CALL_BROKEN = "call_broken"


class OutputEvent(NamedTuple):
    """One event, and the place in the output, in characters, where it is due.

    `text`: the content, the thoughts, the function's name, a piece of the arguments' JSON; empty
    at the end of a call. `call` numbers the calls of an output from 0; it is -1 outside calls.
    `width` is len(text) where the text is the output's own up to `end`, and 0 where it was made at
    `end`; content and thoughts are always the output's own. A call that cannot go on is broken:
    what was said of it stays, and the rest of its text is content.
    """

    kind: EventKind
    text: str
    end: int
    width: int
    call: int = -1

    @property
    def start(self) -> int:
        """Where its text begins in the output."""
        return self.end - self.width

    def up_to(self, place: int) -> "OutputEvent":
        """The part of the output's own text that is in front of `place`."""
        length = place - self.start
        return self._replace(text=self.text[:length], end=place, width=length)

    def behind(self, place: int) -> "OutputEvent":
        """The part of the output's own text that is behind `place`."""
        length = self.end - place
        return self._replace(text=self.text[-length:], width=length)

"""What all parsers share: pieces of text in, events out, and how a parser reads and waits.

A parser is one generator that reads characters and waits, by yielding, where it needs one that has
not come. What it decides depends on the text alone, never on the pieces in which it came: it
looks at a character only through the methods here, which wait for it.

Between `_mark` and `_at` is what has been read and is not yet decided; it may still become content.
It is never longer than MAX_HELD: there the text counts as malformed.
"""

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Sequence

from tokenizer_svc.formats.events import EventKind, OutputEvent

MAX_HELD = 65_536
"""Most characters of an output that wait to be decided, such as the beginning of a call."""

Reading = Generator[None, None, None]

_BLANK = re.compile(r"[ \t\r\n]*")


class MalformedError(Exception):
    """The text is not what the format wants in this place; so is the output's end within it."""


class OutputParser(ABC):
    """The state of one output. `feed` takes text in order, `finish` ends it."""

    def __init__(self) -> None:
        self._buffer = ""
        self._base = 0  # place of the buffer's first character in the output
        self._mark = 0
        self._at = 0
        self._has_ended = False
        self._events: list[OutputEvent] = []
        self._reading: Reading | None = None

    @property
    def settled(self) -> int:
        """Up to which character the output is decided and said; the rest is held back."""
        return self._base + self._mark

    def feed(self, text: str) -> list[OutputEvent]:
        """Take the next piece; returns what it decides."""
        self._buffer = self._buffer[self._mark :] + text
        self._base += self._mark
        self._at -= self._mark
        self._mark = 0
        return self._go_on()

    def finish(self) -> list[OutputEvent]:
        """End the output; returns what was held back. Nothing may follow."""
        self._has_ended = True
        return self._go_on()

    @abstractmethod
    def _read(self) -> Reading:
        """Read the whole output."""

    def _go_on(self) -> list[OutputEvent]:
        if self._reading is None:
            self._reading = self._read()
        next(self._reading, None)
        events, self._events = self._events, []
        return events

    def _say(self, kind: EventKind, text: str = "", call: int = -1) -> None:
        """Add an event that is made here; the text read so far is decided."""
        self._mark = self._at
        self._events.append(OutputEvent(kind, text, self.settled, 0, call))

    def _pass(self, kind: EventKind, call: int = -1) -> None:
        """Add the text read since it was last decided, as it is."""
        text = self._buffer[self._mark : self._at]
        self._mark = self._at
        if text:
            self._events.append(OutputEvent(kind, text, self.settled, len(text), call))

    def _drop(self) -> None:
        """The text read since it was last decided is markup."""
        self._mark = self._at

    def _is_blank_rest(self) -> bool:
        """Whether nothing but blanks is left of an output that has ended."""
        found = _BLANK.match(self._buffer, self._mark)
        return self._has_ended and found is not None and found.end() == len(self._buffer)

    def _more(self) -> Reading:
        """Wait for text. Raises MalformedError at the output's end."""
        if self._has_ended:
            raise MalformedError
        yield

    def _peek(self) -> Generator[None, None, str]:
        """The next character, which stays. Raises MalformedError where there is none."""
        while True:
            if self._at - self._mark >= MAX_HELD:
                raise MalformedError
            if self._at < len(self._buffer):
                return self._buffer[self._at]
            yield from self._more()

    def _skip(self, run: re.Pattern[str] = _BLANK) -> Reading:
        """Read all characters that `run`, the pattern of a repeated class, matches."""
        while True:
            wall = self._mark + MAX_HELD
            found = run.match(self._buffer, self._at, wall)
            self._at = found.end() if found else self._at
            if self._at == wall:
                raise MalformedError
            if self._at < len(self._buffer):
                return
            yield from self._more()

    def _skip_optional(self) -> Reading:
        """Read blanks, up to the output's end or the most that can be held."""
        try:
            yield from self._skip()
        except MalformedError:
            return

    def _finds(self, texts: Sequence[str]) -> Generator[None, None, str | None]:
        """Which of the texts comes next, read if one does; none begins another."""
        while True:
            rest = self._buffer[self._at : self._at + max(map(len, texts))]
            for text in texts:
                if rest.startswith(text):
                    self._at += len(text)
                    return text
            if self._has_ended or not any(text.startswith(rest) for text in texts):
                return None
            yield

    def _expect(self, *texts: str) -> Generator[None, None, str]:
        """Read blanks and one of the texts. Raises MalformedError for anything else."""
        yield from self._skip()
        found = yield from self._finds(texts)
        if found is None:
            raise MalformedError
        return found

    def _pass_up_to(
        self, markers: Sequence[str], take: Callable[[], None]
    ) -> Generator[None, None, str | None]:
        """Read up to the marker that begins first, and read that; None at the output's end.

        `take` decides what is in front of it, whenever there is some.
        """
        pattern = re.compile("|".join(map(re.escape, markers)))
        while True:
            found = pattern.search(self._buffer, self._at)
            self._at = found.start() if found else self._first_possible_start(markers)
            take()
            if found is not None:
                self._at += len(found.group())
                return found.group()
            if self._has_ended:
                return None
            yield

    def _first_possible_start(self, markers: Sequence[str]) -> int:
        """From where the rest of the buffer may be the beginning of a marker."""
        end = len(self._buffer)
        if self._has_ended:
            return end
        for place in range(max(self._at, end - max(map(len, markers)) + 1), end):
            rest = self._buffer[place:]
            if any(marker.startswith(rest) for marker in markers):
                return place
        return end

"""What the parsers of tool calls share: content, calls in it, and calls that turn out not to be.

Blanks in front of a call at the output's beginning, between calls and behind the last are markup;
all other text outside calls is content, as it is. What begins like a call and is none is content
too, and is searched again behind its first marker. A call is said when nothing can make content of
it any more; if it breaks off later, what was said stays and the rest is content.
"""

from abc import abstractmethod
from collections.abc import Generator
from typing import ClassVar

from tokenizer_svc.formats.events import EventKind
from tokenizer_svc.formats.parser import MalformedError, OutputParser, Reading

MAX_NAME_CHARACTERS = 256


class ToolParser(OutputParser):
    """The state of one output that may hold calls. `markers` begin one; none begins another."""

    markers: ClassVar[tuple[str, ...]]

    def __init__(self) -> None:
        super().__init__()
        self._num_calls = 0
        self._has_begun = False  # a call since the last marker
        self._is_open = False  # … and it has not ended

    @abstractmethod
    def _call(self, marker: str) -> Reading:
        """Read what is behind a marker: a call or several. Raises MalformedError."""

    def _read(self) -> Reading:
        marker = yield from self._next_marker()
        while True:
            if marker is None:
                marker = yield from self._pass_up_to(self.markers, self._pass_content)
            if marker is None:
                return
            is_call = yield from self._try_call(marker)
            marker = (yield from self._next_marker()) if is_call else None

    def _next_marker(self) -> Generator[None, None, str | None]:
        """The marker that follows at once, at the output's beginning or behind a call."""
        yield from self._skip_optional()
        marker = yield from self._follows()
        if marker is None:
            is_rest = self._has_ended and self._at == len(self._buffer)
            if not (is_rest and self._num_calls):
                self._pass_content()
            self._drop()
        return marker

    def _follows(self) -> Generator[None, None, str | None]:
        """A marker, if the text goes on with one."""
        return (yield from self._finds(self.markers))

    def _try_call(self, marker: str) -> Generator[None, None, bool]:
        """Read calls behind a marker; False where there are none or they broke off."""
        prefix = self._at - self._mark
        self._has_begun = False
        try:
            yield from self._call(marker)
        except MalformedError:
            if self._has_begun:
                self._break_off()
            else:
                self._at = self._mark + prefix
                self._pass_content()
            return False
        return True

    def _break_off(self) -> None:
        self._at = self._mark
        if self._is_open:
            self._end_call(EventKind.CALL_BROKEN)
        if self._is_blank_rest():
            self._at = len(self._buffer)
            self._drop()

    def _begin_call(self, name: str) -> None:
        self._has_begun = self._is_open = True
        self._say(EventKind.CALL_BEGIN, name, self._num_calls)

    def _say_arguments(self, text: str) -> None:
        if text:
            self._say(EventKind.ARGUMENTS, text, self._num_calls)

    def _end_call(self, kind: EventKind = EventKind.CALL_END) -> None:
        self._say(kind, "", self._num_calls)
        self._num_calls += 1
        self._is_open = False

    def _pass_content(self) -> None:
        self._pass(EventKind.CONTENT)

    def _end_marker(self, marker: str) -> Reading:
        """Drop the marker behind a call, if it is there or the output ends within it."""
        yield from self._skip_optional()
        found = yield from self._finds((marker,))
        rest = self._buffer[self._at : self._at + len(marker)]
        if found is None and self._has_ended and marker.startswith(rest):
            self._at = len(self._buffer)
            found = marker
        if found is not None:
            self._drop()
        self._at = self._mark


def checked_name(name: str) -> str:
    """A function's name. Raises MalformedError for what can be none."""
    if not 0 < len(name) <= MAX_NAME_CHARACTERS or not is_text(name):
        raise MalformedError
    return name


def is_text(text: str) -> bool:
    """Whether it is no half of a surrogate pair, which JSON can spell and UTF-8 cannot."""
    return not any("\ud800" <= character <= "\udfff" for character in text)

"""A call as a JSON object: {"name": …, "arguments": {…}}, in either order.

`parameters` is another word for `arguments`, which may also be null or a string that holds the
object's JSON. Beside them a call has `id` and `type` at most, which are texts; an object with other
members is no call.
"""

import json
from collections.abc import Generator
from typing import ClassVar

from tokenizer_svc.formats.events import EventKind
from tokenizer_svc.formats.json_scanner import JsonScanner, is_json_object
from tokenizer_svc.formats.parser import MAX_HELD, MalformedError, Reading
from tokenizer_svc.formats.tool_parser import ToolParser, checked_name, is_text

NO_ARGUMENTS = "{}"
ARGUMENTS, PARAMETERS = "arguments", "parameters"
_MEMBERS = {
    "name": "name",
    "arguments": "arguments",
    "parameters": "arguments",
    "id": "id",
    "type": "type",
}


class JsonToolParser(ToolParser):
    """Reads calls that are JSON objects. `needs_arguments`: one without them is no call."""

    needs_arguments: ClassVar[bool] = False

    def __init__(self) -> None:
        super().__init__()
        self._name: str | None = None
        self._arguments: str | None = None  # of a call whose name comes behind them

    def _call_object(self) -> Reading:
        """Read one call. Raises MalformedError."""
        self._name = self._arguments = None
        members: set[str] = set()
        yield from self._expect("{")
        separator = ","
        while separator == ",":
            key = _MEMBERS.get((yield from self._string()), "")
            if not key or key in members:
                raise MalformedError
            members.add(key)
            yield from self._expect(":")
            yield from self._member(key)
            separator = yield from self._expect(",", "}")
        if not self._is_open:
            self._call_without_arguments()
        self._end_call()

    def _member(self, key: str) -> Reading:
        if key == "name":
            self._name = checked_name((yield from self._string()))
            if self._arguments is not None:
                self._begin_call(self._name)
                self._say_arguments(self._arguments)
        elif key == "arguments":
            yield from self._read_arguments()
        else:
            yield from self._string()

    def _read_arguments(self) -> Reading:
        yield from self._skip()
        first = yield from self._peek()
        if first == "{" and self._name is not None:
            self._begin_call(self._name)
            yield from self._stream_arguments()
            return
        arguments = as_arguments((yield from self._value()))
        if self._name is None:
            self._arguments = arguments
        else:
            self._begin_call(self._name)
            self._say_arguments(arguments)

    def _call_without_arguments(self) -> None:
        if self._name is None or self.needs_arguments:
            raise MalformedError
        self._begin_call(self._name)
        self._say_arguments(NO_ARGUMENTS)

    def _stream_arguments(self) -> Reading:
        """Pass an object as it comes. Raises MalformedError behind the last that fits."""
        scanner = JsonScanner()
        while not scanner.is_done:
            if self._at == len(self._buffer):
                yield from self._more()
            self._at = scanner.scan(self._buffer, self._at, len(self._buffer))
            self._pass(EventKind.ARGUMENTS, self._num_calls)
            if scanner.is_broken:
                raise MalformedError

    def _value(self) -> Generator[None, None, str]:
        """Read a whole value; returns its JSON. Raises MalformedError."""
        yield from self._skip()
        start = self._at - self._mark
        scanner = JsonScanner()
        while not scanner.is_done:
            yield from self._peek()
            end = min(len(self._buffer), self._mark + MAX_HELD)
            self._at = scanner.scan(self._buffer, self._at, end)
            if scanner.is_broken:
                raise MalformedError
        return self._buffer[self._mark + start : self._at]

    def _string(self) -> Generator[None, None, str]:
        """Read a string; returns what it says. Raises MalformedError."""
        yield from self._skip()
        if (yield from self._peek()) != '"':
            raise MalformedError
        return str(json.loads((yield from self._value())))


def call_beginning(name: str, arguments: str = ARGUMENTS) -> str:
    """A call's object in front of the arguments, behind which `}` closes it."""
    return f'{{"name": {json.dumps(name, ensure_ascii=False)}, "{arguments}": '


def as_arguments(value: str) -> str:
    """The arguments' object of a JSON value. Raises MalformedError for a value that has none."""
    if value == "null":
        return NO_ARGUMENTS
    text = json.loads(value) if value.startswith('"') else value
    if not text.strip():
        return NO_ARGUMENTS
    if not is_json_object(text) or not is_text(text):
        raise MalformedError
    return str(text)

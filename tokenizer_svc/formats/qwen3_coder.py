"""Calls as Qwen3-Coder writes them: <function=name>, <parameter=key>, values as bare text.

A value is a string unless the function's schema says otherwise: a string comes out as it is
written, anything else when it is whole. The arguments' JSON is made here. The <tool_call> around a
call may be missing, as it is now and then. Source: the model's chat template.
"""

import json
import re
from collections.abc import Generator

from tokenizer_svc.formats.json_scanner import JsonScanner
from tokenizer_svc.formats.parameter_values import is_string, json_of
from tokenizer_svc.formats.parser import MAX_HELD, MalformedError, Reading
from tokenizer_svc.formats.seam import ToolTypes
from tokenizer_svc.formats.tool_parser import ToolParser, checked_name

OPEN, CLOSE = "<tool_call>", "</tool_call>"
FUNCTION, END_FUNCTION = "<function=", "</function>"
PARAMETER, END_PARAMETER = "<parameter=", "</parameter>"
MARKERS = (OPEN, CLOSE, FUNCTION, END_FUNCTION, PARAMETER, END_PARAMETER)
_NAME = re.compile(r"[^<>\s]*")


class Qwen3CoderParser(ToolParser):
    """The state of one output."""

    markers = (OPEN, FUNCTION)

    def __init__(self, tool_types: ToolTypes) -> None:
        super().__init__()
        self._tool_types = tool_types
        self._no_end_before = 0  # place in the output: what broke off there is not searched again

    def _call(self, marker: str) -> Reading:
        if marker == OPEN:
            yield from self._expect(FUNCTION)
        name = yield from self._name()
        found = yield from self._expect(PARAMETER, END_FUNCTION)
        self._at -= len(found)
        self._begin_call(name)
        yield from self._read_parameters(name)
        self._end_call()
        yield from self._end_marker(CLOSE)

    def _read_parameters(self, function: str) -> Reading:
        types = self._tool_types.get(function, {})
        keys: set[str] = set()
        while (yield from self._expect(PARAMETER, END_FUNCTION)) == PARAMETER:
            key = yield from self._name()
            if key in keys:
                raise MalformedError
            yield from self._finds(("\n",))
            self._say_arguments(f"{', ' if keys else '{'}{json.dumps(key, ensure_ascii=False)}: ")
            keys.add(key)
            yield from self._read_value(types.get(key, frozenset()))
        self._say_arguments("}" if keys else "{}")

    def _read_value(self, types: frozenset[str]) -> Reading:
        if is_string(types):
            self._say_arguments('"')
            yield from self._stream_string()
            self._say_arguments('"')
        else:
            value = yield from self._whole_value(types)
            self._say_arguments(json_of(value, types))

    def _stream_string(self) -> Reading:
        ends = ("\n" + END_PARAMETER, END_PARAMETER)
        if (yield from self._pass_up_to(ends, self._pass_string)) is None:
            raise MalformedError

    def _pass_string(self) -> None:
        text = self._buffer[self._mark : self._at]
        self._say_arguments(json.dumps(text, ensure_ascii=False)[1:-1])

    def _whole_value(self, types: frozenset[str]) -> Generator[None, None, str]:
        """Read up to the end marker, but not to one in a string of an array or object."""
        inside = _Inside(types)
        while True:
            wall = self._mark + MAX_HELD
            start = max(self._mark + inside.searched, self._no_end_before - self._base)
            place = self._buffer.find(END_PARAMETER, start, wall)
            if place >= 0 and inside.holds(self._buffer, self._mark, place):
                continue
            if place >= 0:
                value = self._buffer[self._mark : place]
                self._at = place + len(END_PARAMETER)
                return value.removesuffix("\n")
            self._at = min(len(self._buffer), wall)
            if not inside.searched:
                self._no_end_before = max(0, self._base + self._at - len(END_PARAMETER))
            if self._at == wall:
                raise MalformedError
            yield from self._more()

    def _name(self) -> Generator[None, None, str]:
        """Read a name and the `>` behind it."""
        start = self._at - self._mark
        yield from self._skip(_NAME)
        name = checked_name(self._buffer[self._mark + start : self._at])
        yield from self._expect(">")
        return name


class _Inside:
    """Tells end markers within the strings of a JSON value from the one behind it.

    `searched`: characters of the value in which there is no other.
    """

    def __init__(self, types: frozenset[str]) -> None:
        self._scanner = JsonScanner() if types & {"array", "object"} else None
        self._scanned = 0
        self.searched = 0

    def holds(self, text: str, start: int, place: int) -> bool:
        """Whether the marker at `place` is within a string of the value that begins at `start`."""
        scanner = self._scanner
        if scanner is None:
            return False
        scanner.scan(text, start + self._scanned, place)
        self._scanned = place - start
        if scanner.is_broken or not scanner.is_within_string:
            return False
        self.searched = self._scanned + len(END_PARAMETER)
        return True

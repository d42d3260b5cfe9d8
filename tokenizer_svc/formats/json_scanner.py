"""A JSON value that comes in pieces: where it ends, and whether it is one (RFC 8259)."""

import re
from collections.abc import Callable

_MAX_DEPTH = 128
_MAX_NUMBER_CHARACTERS = 1000
_BLANKS = " \t\r\n"
_STRING_RUN = re.compile(r'[^"\\\x00-\x1f]*')
_LITERALS = ("true", "false", "null")
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")
_NUMBER_BEGINNING = re.compile(r"-?(?:(?:0|[1-9][0-9]*)(?:\.[0-9]*)?)?")
_EXPONENT_BEGINNING = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?[eE][+-]?[0-9]*")
_NUMBER_CHARACTERS = frozenset("0123456789+-.eE")

_Step = Callable[[str], bool]


class JsonScanner:
    """The state of one value, which begins with its first character that is no blank.

    `is_done`: the value is complete; `is_broken`: it cannot be. Numbers outside an object or array
    have no end of their own: they are done at the character behind.
    """

    __slots__ = ("_atom", "_closers", "_expects", "_hex_left", "is_broken", "is_done")

    def __init__(self) -> None:
        self._closers: list[str] = []  # of the objects and arrays that are open
        self._expects: _Step | None = self._value  # None: within a string
        self._atom = ""  # the number or literal so far
        self._hex_left = 0
        self.is_done = False
        self.is_broken = False

    @property
    def is_within_string(self) -> bool:
        """Whether the next character belongs to a string."""
        return self._expects is None and not self.is_done

    def scan(self, text: str, at: int, end: int) -> int:
        """Read `text` from `at` up to `end`; returns how far it belongs to the value."""
        while at < end and not (self.is_done or self.is_broken):
            if self._expects is None:
                found = _STRING_RUN.match(text, at, end)
                at = found.end() if found else at
                if at < end:
                    at += self._within_string(text[at])
            elif self._expects(text[at]):
                at += 1
        return at

    def _within_string(self, character: str) -> bool:
        if character == '"':
            self._end_value()
            if self._closers and self._closers[-1] == ":":
                self._closers.pop()
                self._expects = self._colon
        elif character == "\\":
            self._expects = self._escape
        else:
            self.is_broken = True
        return not self.is_broken

    def _escape(self, character: str) -> bool:
        if character == "u":
            self._hex_left = 4
            self._expects = self._hex
        elif character in '"\\/bfnrt':
            self._expects = None
        else:
            self.is_broken = True
        return not self.is_broken

    def _hex(self, character: str) -> bool:
        if character not in "0123456789abcdefABCDEF":
            self.is_broken = True
            return False
        self._hex_left -= 1
        if not self._hex_left:
            self._expects = None
        return True

    def _value(self, character: str) -> bool:
        if character in _BLANKS:
            return True
        if character == '"':
            self._expects = None
        elif character in "{[":
            self._open(character)
        elif character in "-0123456789":
            self._atom = character
            self._expects = self._number
        elif character in "tfn":
            self._atom = character
            self._expects = self._literal
        else:
            self.is_broken = True
        return not self.is_broken

    def _open(self, character: str) -> None:
        self._closers.append("}" if character == "{" else "]")
        self._expects = self._first_key if character == "{" else self._first_item
        self.is_broken = len(self._closers) > _MAX_DEPTH

    def _first_item(self, character: str) -> bool:
        if character == "]":
            return self._close()
        if character not in _BLANKS:
            self._expects = self._value
            return self._value(character)
        return True

    def _first_key(self, character: str) -> bool:
        if character == "}":
            return self._close()
        return self._key(character)

    def _key(self, character: str) -> bool:
        if character == '"':
            self._closers.append(":")  # the string that follows is a key
            self._expects = None
        elif character not in _BLANKS:
            self.is_broken = True
        return not self.is_broken

    def _colon(self, character: str) -> bool:
        if character == ":":
            self._expects = self._value
        elif character not in _BLANKS:
            self.is_broken = True
        return not self.is_broken

    def _behind_value(self, character: str) -> bool:
        if character == self._closers[-1]:
            return self._close()
        if character == ",":
            self._expects = self._key if self._closers[-1] == "}" else self._value
        elif character not in _BLANKS:
            self.is_broken = True
        return not self.is_broken

    def _close(self) -> bool:
        self._closers.pop()
        self._end_value()
        return True

    def _end_value(self) -> None:
        self._expects = self._behind_value
        self.is_done = not self._closers

    def _literal(self, character: str) -> bool:
        self._atom += character
        if self._atom in _LITERALS:
            self._end_value()
        elif not any(literal.startswith(self._atom) for literal in _LITERALS):
            self.is_broken = True
        return not self.is_broken

    def _number(self, character: str) -> bool:
        if character not in _NUMBER_CHARACTERS:
            self.is_broken = not _NUMBER.fullmatch(self._atom)
            self._end_value()
            return False  # the character is what follows
        self._atom += character
        begins = _NUMBER_BEGINNING if "e" not in self._atom.lower() else _EXPONENT_BEGINNING
        if len(self._atom) > _MAX_NUMBER_CHARACTERS or not begins.fullmatch(self._atom):
            self.is_broken = True
        return not self.is_broken


def is_json_object(text: str) -> bool:
    """Whether the text is one JSON object, blanks around it aside."""
    text = text.strip(_BLANKS)
    scanner = JsonScanner()
    length = scanner.scan(text, 0, len(text))
    return text.startswith("{") and scanner.is_done and length == len(text)

"""How a tokenizer writes bytes as tokens, read from the decoder of its tokenizer.json.

Two families. ByteLevel: a token is spelled in an alphabet of 256 printable characters, one a byte.
Metaspace: a token is text with a mark for the space, and with byte fallback a token `<0xNN>` stands
for a single byte. Special and added tokens go through the same decoder as all others.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_BYTE_TOKEN = re.compile(r"<0x([0-9A-Fa-f]{2})>")
# The steps of a decoder as letters, in the only orders whose meaning is known.
_STEP_LETTERS = {
    "ByteLevel": "L",
    "Replace": "R",
    "Metaspace": "M",
    "ByteFallback": "B",
    "Fuse": "F",
    "Strip": "S",
}
_BYTE_LEVEL = re.compile(r"LF*")
_METASPACE = re.compile(r"[RM]+B?(F+S?)?")


@dataclass(frozen=True, slots=True)
class TokenSpelling:
    """What the decoder does with tokens.

    `strips_leading_space`: of the whole text, one space. `drops_first_marks`: of the first token,
    all marks that its decoder step would make spaces.
    """

    is_byte_level: bool = False
    space_marks: frozenset[str] = frozenset()
    dropped_marks: frozenset[str] = frozenset()
    has_byte_tokens: bool = False
    strips_leading_space: bool = False

    def is_byte(self, token: str) -> bool:
        """Whether the token stands for a single byte of a run of bytes."""
        return self.has_byte_tokens and _BYTE_TOKEN.fullmatch(token) is not None

    def bytes_of(self, token: str) -> bytes:
        """What the token adds to a text."""
        if self.is_byte_level:
            if _ALPHABET_MARKS.issuperset(token):
                return token.translate(_ALPHABET_TABLE).encode("latin-1")
            return token.encode()
        if self.is_byte(token):
            return bytes.fromhex(token[3:5])
        for mark in self.space_marks:
            token = token.replace(mark, " ")
        return token.encode()

    def first_bytes_of(self, token: str) -> bytes:
        """What the token adds to a text that begins with it, a leading space still in place."""
        for mark in self.dropped_marks:
            token = token.replace(mark, "")
        return self.bytes_of(token)


def read_spelling(decoder: Mapping[str, Any] | None) -> TokenSpelling:
    """The spelling that a decoder undoes. Raises ValueError for one of another family."""
    steps = _decoder_steps(decoder)
    kinds = [str(step["type"]) for step in steps]
    order = "".join(_STEP_LETTERS.get(kind, "?") for kind in kinds)
    if _BYTE_LEVEL.fullmatch(order):
        return TokenSpelling(is_byte_level=True)
    if not _METASPACE.fullmatch(order):
        known = "ByteLevel; Metaspace or Replace, then ByteFallback, Fuse, Strip"
        raise ValueError(f"its decoder {kinds} is not supported; known are {known}")
    return TokenSpelling(
        space_marks=frozenset(filter(None, map(_space_mark, steps))),
        dropped_marks=frozenset(filter(None, map(_dropped_mark, steps))),
        has_byte_tokens="ByteFallback" in kinds,
        strips_leading_space=any(map(_strips_leading_space, steps)),
    )


def byte_alphabet() -> dict[str, int]:
    """The printable character that stands for each byte in ByteLevel tokens, reversed.

    Printable Latin-1 characters stand for themselves; the other 68 bytes, in order, are written as
    the characters from U+0100 on.
    """
    own = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    moved = [byte for byte in range(256) if byte not in own]
    alphabet = {chr(byte): byte for byte in own}
    alphabet.update({chr(0x100 + place): byte for place, byte in enumerate(moved)})
    return alphabet


_ALPHABET = byte_alphabet()
_ALPHABET_TABLE = str.maketrans({mark: chr(byte) for mark, byte in _ALPHABET.items()})
_ALPHABET_MARKS = frozenset(_ALPHABET)


def _decoder_steps(decoder: Mapping[str, Any] | None) -> list[Mapping[str, Any]]:
    if decoder is None:
        return []
    if decoder["type"] == "Sequence":
        return [step for inner in decoder["decoders"] for step in _decoder_steps(inner)]
    return [decoder]


def _space_mark(step: Mapping[str, Any]) -> str | None:
    if step["type"] == "Metaspace":
        return str(step["replacement"])
    if step["type"] == "Replace":
        mark = step["pattern"].get("String")
        if step["content"] != " " or not mark:
            raise ValueError("its decoder replaces something else than a mark by a space")
        return str(mark)
    return None


def _dropped_mark(step: Mapping[str, Any]) -> str | None:
    if step["type"] != "Metaspace":
        return None
    scheme = step.get("prepend_scheme")
    drops = bool(step.get("add_prefix_space", True)) if scheme is None else scheme != "never"
    return str(step["replacement"]) if drops else None


def _strips_leading_space(step: Mapping[str, Any]) -> bool:
    if step["type"] != "Strip" or (step["start"], step["stop"]) == (0, 0):
        return False
    if (step["content"], step["start"], step["stop"]) != (" ", 1, 0):
        raise ValueError("its decoder strips something else than one space in front")
    return True

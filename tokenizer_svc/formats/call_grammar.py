"""How a format writes calls, for guides: the other direction of its parser.

Expressions are in llguidance's dialect of Lark. A writer makes them, and keeps the rules behind.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol


class UnwritableFunctionError(Exception):
    """A function whose calls cannot be held to its schema; the message names the keyword."""


@dataclass(frozen=True, slots=True)
class GuidedFunction:
    """A function that may be called, and the schema of its arguments.

    `is_exact`: a schema of objects, which the arguments follow. Otherwise it says no more than
    which there may be.
    """

    name: str
    schema: Mapping[str, Any]
    is_exact: bool

    @property
    def accepted(self) -> Mapping[str, Any]:
        """The schema that the arguments' JSON is held to."""
        return self.schema if self.is_exact else {"type": "object"}


class GrammarWriter(Protocol):
    """Expressions of a grammar for one vocabulary."""

    def is_special(self, marker: str) -> bool:
        """Whether it is a special token."""

    def marker(self, marker: str) -> str:
        """A marker: the special token where it is one, else its text."""

    def text(self, text: str) -> str:
        """The text, not empty, as ordinary tokens spell it."""

    def json(self, schema: Mapping[str, Any]) -> str:
        """JSON that the schema accepts."""

    def terminal(self, pattern: str) -> str:
        """Text that matches as a whole; the pattern is one of Lark's terminals."""

    def rule(self, expression: str) -> str:
        """The expression, by a name."""


@dataclass(frozen=True, slots=True)
class CallGrammar:
    """How calls are written.

    `opening`: the marker behind which calls stand. `may_begin_with`: the text with which they
    begin where they stand without it, at the answer's beginning; None where they never do.
    `markers`: what the parser takes for the beginning of a call. `write` gets the functions and the
    most calls, and gives what is behind the opening: one call or several. `strings_are_json`: their
    length can be bounded without making the matching too complex. `write` raises
    UnwritableFunctionError.
    """

    opening: str
    markers: tuple[str, ...]
    write: Callable[[GrammarWriter, Sequence[GuidedFunction], int], str]
    may_begin_with: str | None = None
    strings_are_json: bool = True


def one_of(expressions: Sequence[str]) -> str:
    """Any of the expressions."""
    return "(" + " | ".join(expressions) + ")"


def several(first: str, next_one: str, most: int) -> str:
    """`first`, then up to `most` in all, each further one as `next_one`."""
    return first if most == 1 else f"{first} ({next_one}){{0,{most - 1}}}"

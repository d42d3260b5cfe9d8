"""What an output format is to the service, for those shipped here and those from outside.

A package offers one by an entry point in the group `headrace.output_formats` that names a
ToolFormat or a ReasoningFormat. Its parser keeps what `EventParser` says.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from tokenizer_svc.formats.events import OutputEvent

ToolTypes = Mapping[str, Mapping[str, frozenset[str]]]
"""JSON types of each function's parameters, by their names; empty = any."""


class EventParser(Protocol):
    """The state of one output.

    What has been said after some text depends on that text alone, however it was cut; the events'
    text may be cut as the pieces were. Places are characters from the output's beginning; events
    come in their order, and none is behind `settled`.
    """

    @property
    def settled(self) -> int:
        """Up to which character the output is decided and said; the rest is held back."""

    def feed(self, text: str) -> list[OutputEvent]:
        """Take the next piece; returns what it decides."""

    def finish(self) -> list[OutputEvent]:
        """End the output; returns what was held back. Nothing may follow."""


@dataclass(frozen=True, slots=True)
class ToolFormat:
    """How tool calls are written. `markers`: special tokens that the parser must see as text.

    `make` gets the parameters' types, empty where none are known.
    """

    name: str
    markers: tuple[str, ...]
    make: Callable[[ToolTypes], EventParser]


@dataclass(frozen=True, slots=True)
class ReasoningFormat:
    """How thoughts are written in front of an answer. `markers` as above.

    `opens`: a prompt that ends with this, blanks aside, has opened the thoughts. `make` gets the
    parser of the answer, and whether that is so.
    """

    name: str
    markers: tuple[str, ...]
    opens: str
    make: Callable[[EventParser, bool], EventParser]

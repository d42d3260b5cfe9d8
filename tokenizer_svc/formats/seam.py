"""What an output format is to the service, for those shipped here and those from outside.

A package offers one by an entry point in the group `headrace.output_formats` that names a
ToolFormat or a ReasoningFormat. Its parser keeps what `EventParser` says.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from tokenizer_svc.formats.call_grammar import CallGrammar
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


@runtime_checkable
class ThoughtsParser(EventParser, Protocol):
    """An EventParser that also says how far the thoughts go, so that their tokens are counted."""

    @property
    def thoughts_end(self) -> int | None:
        """Where they end, markup included, in characters; None until that is decided.

        0 where there are none. Until it is decided, what is settled is thoughts and markup.
        """


@dataclass(frozen=True, slots=True)
class ToolFormat:
    """How tool calls are written. `markers`: special tokens that the parser must see as text.

    `make` gets the parameters' types, empty where none are known. `grammar`: how calls are
    written; without it none can be demanded or held to a schema.
    """

    name: str
    markers: tuple[str, ...]
    make: Callable[[ToolTypes], EventParser]
    grammar: CallGrammar | None = None


@dataclass(frozen=True, slots=True)
class ReasoningFormat:
    """How thoughts are written in front of an answer. `markers` as above.

    `opens`: a prompt that ends with this, blanks aside, has opened the thoughts. `make` gets the
    parser of the answer, and whether that is so. `closes`: a prompt that ends with this, blanks
    aside, has closed them, so that the answer has none; it also ends thoughts, and up to two line
    breaks behind it are markup. Empty = prompts do not, and no guide can stand behind thoughts.
    `are_always_read`: the parser reads thoughts at once, opened or not.
    """

    name: str
    markers: tuple[str, ...]
    opens: str
    make: Callable[[EventParser, bool], EventParser]
    closes: str = ""
    are_always_read: bool = False

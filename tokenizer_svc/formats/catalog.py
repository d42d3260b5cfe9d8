"""Output formats by name: those shipped here, and those that installed packages bring.

A name is that of a format for tool calls, of one for thoughts, or of both as `thoughts+calls`, such
as `qwen3+hermes`; `text` is the output without markup.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import Self

from headrace.runtime.errors import StartError
from tokenizer_svc.formats import (
    hermes,
    llama3_json,
    mistral,
    qwen3_coder,
    qwen3_coder_calls,
    reasoning,
)
from tokenizer_svc.formats.seam import EventParser, ReasoningFormat, ToolFormat, ToolTypes
from tokenizer_svc.formats.text import TextParser

ENTRY_POINT_GROUP = "headrace.output_formats"
TEXT = "text"
# In which calls are asked for and read of models that have no format of their own for them.
CALLS_BY_DEFAULT = "hermes"
_SEPARATOR = "+"
_THINK = (reasoning.OPEN, reasoning.CLOSE)


def _text(_: ToolTypes) -> EventParser:
    return TextParser()


def _deepseek_r1(answer: EventParser, begins_inside: bool) -> EventParser:  # noqa: FBT001 (the seam's)
    # These models always think, whether or not the prompt or they themselves open the block.
    del begins_inside
    return reasoning.ReasoningParser(answer, begins_inside=True)


def _qwen3(answer: EventParser, begins_inside: bool) -> EventParser:  # noqa: FBT001 (the seam's)
    return reasoning.ReasoningParser(answer, begins_inside=begins_inside)


_HERMES = ToolFormat(
    CALLS_BY_DEFAULT,
    (hermes.OPEN, hermes.CLOSE),
    lambda _: hermes.HermesParser(),
    hermes.GRAMMAR,
)
_SHIPPED: tuple[ToolFormat | ReasoningFormat, ...] = (
    ToolFormat(
        "qwen3_coder", qwen3_coder.MARKERS, qwen3_coder.Qwen3CoderParser, qwen3_coder_calls.GRAMMAR
    ),
    ToolFormat(
        "llama3_json",
        (llama3_json.PYTHON_TAG,),
        lambda _: llama3_json.Llama3JsonParser(),
        llama3_json.GRAMMAR,
    ),
    ToolFormat("mistral", mistral.MARKERS, lambda _: mistral.MistralParser(), mistral.GRAMMAR),
    ReasoningFormat("deepseek_r1", _THINK, reasoning.OPEN, _deepseek_r1, reasoning.CLOSE, True),
    ReasoningFormat("qwen3", _THINK, reasoning.OPEN, _qwen3, reasoning.CLOSE),
)
_PLAIN = ToolFormat(TEXT, (), _text)


@dataclass(frozen=True, slots=True)
class OutputFormat:
    """A format or a combination, by its whole name."""

    name: str
    thoughts: ReasoningFormat | None
    calls: ToolFormat

    @property
    def has_calls(self) -> bool:
        """Whether calls are read."""
        return self.calls is not _PLAIN

    @property
    def markers(self) -> frozenset[str]:
        """Special tokens that the parser must see as text."""
        return frozenset((*self.calls.markers, *(self.thoughts.markers if self.thoughts else ())))

    def without_calls(self) -> "OutputFormat":
        """The thoughts alone, `text` where there are none."""
        return _combined(self.thoughts, _PLAIN)

    def named(self, name: str) -> "OutputFormat":
        """The format itself by its own name; by another what `behind` made of it, thoughtless."""
        return self if name == self.name else _combined(None, self.calls)

    def behind(self, prompt_end: str) -> "OutputFormat":
        """What answers to such a prompt have of it: no thoughts where it has closed them."""
        closes = self.thoughts.closes if self.thoughts is not None else ""
        is_closed = closes and prompt_end.rstrip().endswith(closes)
        return _combined(None, self.calls) if is_closed else self

    def begins_in_reasoning(self, prompt_end: str) -> bool:
        """Whether a prompt that ends so has opened the thoughts."""
        return self.thoughts is not None and prompt_end.rstrip().endswith(self.thoughts.opens)

    def parser(self, tool_types: ToolTypes, *, begins_in_reasoning: bool) -> EventParser:
        """A parser for one output."""
        answer = self.calls.make(tool_types)
        if self.thoughts is None:
            return answer
        return self.thoughts.make(answer, begins_in_reasoning)


def _combined(thoughts: ReasoningFormat | None, calls: ToolFormat) -> OutputFormat:
    if thoughts is None:
        return OutputFormat(calls.name, None, calls)
    name = thoughts.name if calls is _PLAIN else thoughts.name + _SEPARATOR + calls.name
    return OutputFormat(name, thoughts, calls)


class FormatCatalog:
    """All formats that this process knows. Raises StartError for two of one name."""

    def __init__(self, formats: Iterable[ToolFormat | ReasoningFormat] = _SHIPPED) -> None:
        self._calls: dict[str, ToolFormat] = {TEXT: _PLAIN, CALLS_BY_DEFAULT: _HERMES}
        self._thoughts: dict[str, ReasoningFormat] = {}
        for each in formats:
            self._add(each)

    @classmethod
    def installed(cls, found: Iterable[EntryPoint] | None = None) -> Self:
        """The formats shipped here and those of installed packages. Raises StartError."""
        points = entry_points(group=ENTRY_POINT_GROUP) if found is None else found
        return cls([*_SHIPPED, *map(_loaded, points)])

    @property
    def names(self) -> list[str]:
        """The names that can be combined, `text` first."""
        return [*self._calls, *self._thoughts]

    def find(self, name: str) -> OutputFormat | None:
        """The format or combination of that name; None where there is none."""
        first, separator, second = name.partition(_SEPARATOR)
        thoughts = self._thoughts.get(first)
        if separator:
            calls = self._calls.get(second)
        else:
            calls = self._calls.get(first) if thoughts is None else _PLAIN
        if calls is None or (separator and (thoughts is None or calls is _PLAIN)):
            return None
        return OutputFormat(name, thoughts, calls)

    def with_calls(self, output_format: OutputFormat) -> OutputFormat:
        """The format; one without calls with those of `hermes`."""
        if output_format.has_calls:
            return output_format
        return _combined(output_format.thoughts, self._calls[CALLS_BY_DEFAULT])

    def _add(self, each: ToolFormat | ReasoningFormat) -> None:
        if _SEPARATOR in each.name or each.name in (*self.names, ""):
            raise StartError(f"an output format cannot be named `{each.name}`: taken or malformed")
        if isinstance(each, ToolFormat):
            self._calls[each.name] = each
        else:
            self._thoughts[each.name] = each


def _loaded(point: EntryPoint) -> ToolFormat | ReasoningFormat:
    try:
        loaded = point.load()
    except (ImportError, AttributeError) as error:
        raise StartError(f"output format `{point.name}` cannot be loaded: {error}") from error
    if not isinstance(loaded, ToolFormat | ReasoningFormat):
        raise StartError(f"output format `{point.name}` is no ToolFormat and no ReasoningFormat")
    return loaded

"""Output formats by name: those shipped here, and those that installed packages bring.

A name is that of a format for tool calls, of one for thoughts, or of both as `thoughts+calls`, such
as `qwen3+hermes`; `text` is the output without markup.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import Self

from headrace.runtime.errors import StartError
from tokenizer_svc.formats import hermes, llama3_json, mistral, qwen3_coder, reasoning
from tokenizer_svc.formats.seam import EventParser, ReasoningFormat, ToolFormat, ToolTypes
from tokenizer_svc.formats.text import TextParser

ENTRY_POINT_GROUP = "headrace.output_formats"
TEXT = "text"
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


_SHIPPED: tuple[ToolFormat | ReasoningFormat, ...] = (
    ToolFormat("hermes", (hermes.OPEN, hermes.CLOSE), lambda _: hermes.HermesParser()),
    ToolFormat("qwen3_coder", qwen3_coder.MARKERS, qwen3_coder.Qwen3CoderParser),
    ToolFormat("llama3_json", (llama3_json.PYTHON_TAG,), lambda _: llama3_json.Llama3JsonParser()),
    ToolFormat("mistral", mistral.MARKERS, lambda _: mistral.MistralParser()),
    ReasoningFormat("deepseek_r1", _THINK, reasoning.OPEN, _deepseek_r1),
    ReasoningFormat("qwen3", _THINK, reasoning.OPEN, _qwen3),
)
_PLAIN = ToolFormat(TEXT, (), _text)


@dataclass(frozen=True, slots=True)
class OutputFormat:
    """A format or a combination, by its whole name."""

    name: str
    thoughts: ReasoningFormat | None
    calls: ToolFormat

    @property
    def markers(self) -> frozenset[str]:
        """Special tokens that the parser must see as text."""
        return frozenset((*self.calls.markers, *(self.thoughts.markers if self.thoughts else ())))

    def begins_in_reasoning(self, prompt_end: str) -> bool:
        """Whether a prompt that ends so has opened the thoughts."""
        return self.thoughts is not None and prompt_end.rstrip().endswith(self.thoughts.opens)

    def parser(self, tool_types: ToolTypes, *, begins_in_reasoning: bool) -> EventParser:
        """A parser for one output."""
        answer = self.calls.make(tool_types)
        if self.thoughts is None:
            return answer
        return self.thoughts.make(answer, begins_in_reasoning)


class FormatCatalog:
    """All formats that this process knows. Raises StartError for two of one name."""

    def __init__(self, formats: Iterable[ToolFormat | ReasoningFormat] = _SHIPPED) -> None:
        self._calls: dict[str, ToolFormat] = {TEXT: _PLAIN}
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

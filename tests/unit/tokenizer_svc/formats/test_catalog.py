"""Formats by name, from outside, and found out from a model's files."""

from importlib.metadata import EntryPoint

import pytest

from headrace.runtime.errors import StartError
from tests.support.chat_templates import FAMILIES
from tests.support.tool_templates import TOOL_FAMILIES
from tokenizer_svc.formats.catalog import FormatCatalog
from tokenizer_svc.formats.detection import detected_format
from tokenizer_svc.formats.events import EventKind, OutputEvent
from tokenizer_svc.formats.seam import ToolFormat


class Shouting:
    """A parser from outside: all content, none of it held back."""

    settled = 0

    def feed(self, text: str) -> list[OutputEvent]:
        self.settled += len(text)
        return [OutputEvent(EventKind.CONTENT, text, self.settled, len(text))]

    def finish(self) -> list[OutputEvent]:
        return [OutputEvent(EventKind.CALL_BEGIN, "shout", self.settled, 0, 0)]


SHOUTING = ToolFormat("shouting", ("<|shout|>",), lambda _: Shouting())
NO_FORMAT = "shouting"


def _point(attribute: str) -> EntryPoint:
    return EntryPoint("any", f"{__name__}:{attribute}", "headrace.output_formats")


@pytest.mark.parametrize("name", ["text", "hermes", "qwen3", "qwen3+hermes", "deepseek_r1+mistral"])
def test_names_that_are_known(name: str) -> None:
    """A format, or thoughts in front of one for calls, keeps its name."""
    found = FormatCatalog().find(name)

    assert found is not None
    assert found.name == name


@pytest.mark.parametrize(
    "name", ["", "Hermes", "hermes+qwen3", "qwen3+", "+hermes", "qwen3+text", "qwen3+qwen3+hermes"]
)
def test_names_that_are_not(name: str) -> None:
    """Nothing is guessed from a name that is not exactly one."""
    assert FormatCatalog().find(name) is None


@pytest.mark.parametrize(
    ("name", "without_tools", "with_tools"),
    [
        ("text", "text", "hermes"),
        ("mistral", "text", "mistral"),
        ("qwen3", "qwen3", "qwen3+hermes"),
        ("deepseek_r1+llama3_json", "deepseek_r1", "deepseek_r1+llama3_json"),
    ],
)
def test_calls_are_read_where_there_are_tools(
    name: str, without_tools: str, with_tools: str
) -> None:
    """Without tools thoughts alone; with tools `hermes` where a model has no calls of its own."""
    catalog = FormatCatalog()
    found = catalog.find(name)

    assert found is not None
    assert found.without_calls() == catalog.find(without_tools)
    assert catalog.with_calls(found) == catalog.find(with_tools)


@pytest.mark.parametrize(
    ("name", "prompt_end", "expected"),
    [
        ("qwen3+hermes", "<think>\n\n</think>\n\n", "hermes"),
        ("deepseek_r1", "</think>", "text"),
        ("qwen3+hermes", "assistant\n", "qwen3+hermes"),
        ("qwen3", "</think> more", "qwen3"),
        ("mistral", "</think>", "mistral"),
    ],
)
def test_a_prompt_that_has_closed_the_thoughts_leaves_none(
    name: str, prompt_end: str, expected: str
) -> None:
    """The answer is then read as one of a model that does not think."""
    found = FormatCatalog().find(name)

    assert found is not None
    assert found.behind(prompt_end).name == expected


def test_a_combination_has_the_markers_of_both() -> None:
    """Special tokens of thoughts and of calls are both seen."""
    found = FormatCatalog().find("qwen3+mistral")

    assert found is not None
    assert found.markers >= {"<think>", "</think>", "[TOOL_CALLS]", "[ARGS]"}


def test_a_format_from_outside() -> None:
    """An entry point brings a format, alone and behind thoughts."""
    found = FormatCatalog.installed([_point("SHOUTING")]).find("qwen3+shouting")

    assert found is not None
    reader = found.parser({}, begins_in_reasoning=False)
    events = reader.feed("<think>a</think>b") + reader.finish()
    said = [(event.kind.value, event.text, event.call) for event in events]
    assert said == [("reasoning", "a", -1), ("content", "b", -1), ("call_begin", "shout", 0)]
    assert [event.end for event in events] == [8, 17, 17]
    assert reader.settled == 17
    assert "<|shout|>" in found.markers


@pytest.mark.parametrize(
    ("attributes", "part"),
    [
        (["NOTHING"], "cannot be loaded"),
        (["NO_FORMAT"], "no ToolFormat"),
        (["SHOUTING", "SHOUTING"], "`shouting`"),
    ],
)
def test_what_is_no_format_stops_the_start(attributes: list[str], part: str) -> None:
    """A broken entry point, and two formats of one name, are said by name."""
    with pytest.raises(StartError, match=part):
        FormatCatalog.installed(map(_point, attributes))


@pytest.mark.parametrize("name", ["a+b", "text", "hermes", ""])
def test_names_that_a_format_cannot_have(name: str) -> None:
    """Names are unique and hold no sign of a combination."""
    formats = [ToolFormat(each, (), SHOUTING.make) for each in ("hermes", name)]
    with pytest.raises(StartError):
        FormatCatalog(formats)


@pytest.mark.parametrize(
    ("template", "special_tokens", "expected"),
    [
        (FAMILIES["chatml"], (), "text"),
        (FAMILIES["llama3"], ("<|eot_id|>",), "text"),
        (FAMILIES["qwen3"], (), "qwen3"),
        (TOOL_FAMILIES["hermes"], (), "hermes"),
        (TOOL_FAMILIES["qwen2.5 with tools"], (), "hermes"),
        (TOOL_FAMILIES["llama3.1"], ("<|python_tag|>",), "llama3_json"),
        (TOOL_FAMILIES["mistral with tools"], (), "mistral"),
        (FAMILIES["mistral"], ("[TOOL_CALLS]",), "mistral"),
        (TOOL_FAMILIES["hermes"] + "{# </think> #}", (), "qwen3+hermes"),
        ("<tool_call><function=x><parameter=y>", (), "qwen3_coder"),
        ("<\uff5cAssistant\uff5c><think>\n</think>", (), "deepseek_r1"),
        ("", (), "text"),
    ],
)
def test_what_a_models_files_say(
    template: str, special_tokens: tuple[str, ...], expected: str
) -> None:
    """The template and the special tokens name the format; each is one that is known."""
    found = detected_format(template, special_tokens)

    assert found == expected
    assert FormatCatalog().find(found) is not None

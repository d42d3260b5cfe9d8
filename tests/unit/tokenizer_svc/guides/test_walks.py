"""Random answers that guides allow: the parser reads what was allowed, and arguments validate."""

import json
from collections.abc import Callable
from typing import Any

import jsonschema
import pytest

from headrace.tokenizer.v1.render_pb2 import ToolChoice
from headrace.worker.v1.generation_pb2 import Choice, Guide
from tests.support.guided_walks import Read, Walker, read
from tokenizer_svc.formats.catalog import FormatCatalog
from tokenizer_svc.formats.parameter_values import parameter_types
from tokenizer_svc.guides.answers import AskedAnswer
from tokenizer_svc.guides.checking import GuideChecker
from tokenizer_svc.tool_mapping import ToolSpec

NODE = {"type": "object", "properties": {"v": {"type": "boolean"}}, "required": ["v"]}
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "city": {"type": "string"},
        "n": {"type": "integer", "minimum": 3, "maximum": 40},
        "unit": {"enum": ["c", "f"]},
        "tags": {"type": "array", "items": {"enum": ["a", "b"]}, "maxItems": 3},
        "texts": {"type": "array", "items": {"type": "string"}, "maxItems": 2},
        "maybe": {"type": ["string", "null"]},
        "node": {"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]},
        "code": {"type": "string", "pattern": "^[a-c]{2,4}$"},
        "short": {"type": "string", "minLength": 1, "maxLength": 5},
        "either": {"type": ["string", "integer"]},
    },
    "required": ["city", "n", "unit"],
    "$defs": {"node": NODE},
}
LOOSE = {"type": "object", "properties": {"a": {"type": "integer"}, "b": {"type": "array"}}}
TOOLS = [
    ToolSpec(0, "get", None, SCHEMA, strict=True),
    ToolSpec(1, "wait", None, None, strict=False),
    ToolSpec(2, "loose", None, LOOSE, strict=False),
]
SMALL = {
    "type": "object",
    "properties": {"x": {"type": "integer"}},
    "required": ["x"],
    "additionalProperties": False,
}
# Output formats, and the special tokens of a vocabulary in which they are written.
WRITTEN: list[tuple[str, tuple[str, ...]]] = [
    ("hermes", ()),
    ("hermes", ("<tool_call>", "</tool_call>")),
    ("qwen3_coder", ()),
    ("llama3_json", ("<|python_tag|>",)),
    ("mistral", ("[TOOL_CALLS]",)),
    ("mistral", ("[TOOL_CALLS]", "[ARGS]")),
    ("mistral", ()),
    ("qwen3+hermes", ()),
    ("qwen3+hermes", ("<think>", "</think>")),
    ("deepseek_r1+hermes", ()),
    ("qwen3+qwen3_coder", ()),
]
CHOICES: dict[str, tuple[ToolChoice, Guide | None]] = {
    "auto": (ToolChoice(), None),
    "required": (ToolChoice(required=True), None),
    "named": (ToolChoice(required=True, single_call=True, allowed_names=["get"]), None),
    "single": (ToolChoice(single_call=True), None),
    "json": (ToolChoice(), Guide(json_schema=json.dumps(SMALL))),
    "regex": (ToolChoice(), Guide(regex="[ab]+<?/x")),
    "choice": (ToolChoice(), Guide(choice=Choice(alternatives=["yes", "no"]))),
}
_WALKERS: dict[tuple[str, ...], Walker] = {}


@pytest.fixture(scope="module")
def walker_of() -> Callable[[tuple[str, ...]], Walker]:
    """A walker for a vocabulary with these special tokens."""
    return lambda special: _WALKERS.setdefault(special, Walker(special))


def check(found: Read, choice: ToolChoice, content: Guide | None) -> None:
    """The answer is what was asked."""
    assert not found.num_broken
    assert not (choice.required and (found.content or not found.calls))
    assert not (choice.single_call and len(found.calls) > 1)
    if content is not None:
        assert bool(found.content) != bool(found.calls)
    for name, text in found.calls:
        arguments = json.loads(text)
        [tool] = [tool for tool in TOOLS if tool.name == name]
        assert name in (choice.allowed_names or [name])
        assert isinstance(arguments, dict)
        if choice.required or tool.strict:
            jsonschema.validate(arguments, tool.parameters or {"maxProperties": 0})


def walk_all(
    walker: Walker, name: str, case: str, seeds: range, *, begins_in_reasoning: bool
) -> list[Read]:
    """What is read of the walks that ended, each checked."""
    answered_as = FormatCatalog().find(name)
    assert answered_as is not None
    choice, content = CHOICES[case]
    asked = AskedAnswer(
        answered_as, TOOLS, choice, content, begins_in_reasoning, walker.special_ids, 4096
    )
    guide = GuideChecker().guide(asked)
    assert guide is not None
    types = {tool.name: parameter_types(tool.parameters) for tool in TOOLS if tool.parameters}
    answers = []
    for seed in seeds:
        text = walker.walk(guide, seed)
        if text is None:
            continue
        parser = answered_as.parser(types, begins_in_reasoning=begins_in_reasoning)
        answers.append(read(parser, text))
        check(answers[-1], choice, content)
    return answers


@pytest.mark.parametrize("case", CHOICES)
@pytest.mark.parametrize(("name", "special"), WRITTEN)
def test_what_a_guide_allows_is_read_as_that(
    walker_of: Callable[[tuple[str, ...]], Walker], name: str, special: tuple[str, ...], case: str
) -> None:
    """Calls are whole and valid, content is content, and some walks of each kind end."""
    answers = walk_all(walker_of(special), name, case, range(8), begins_in_reasoning=False)

    assert answers


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("case", CHOICES)
@pytest.mark.parametrize(("name", "special"), WRITTEN)
def test_many_walks(
    walker_of: Callable[[tuple[str, ...]], Walker], name: str, special: tuple[str, ...], case: str
) -> None:
    """The same of 200 each, from both places where an answer may begin."""
    for begins in (False, True) if "+" in name else (False,):
        walk_all(walker_of(special), name, case, range(100, 300), begins_in_reasoning=begins)


@pytest.mark.parametrize("case", ["required", "json"])
@pytest.mark.parametrize("name", ["qwen3+hermes", "deepseek_r1+hermes", "qwen3+qwen3_coder"])
def test_thoughts_that_the_prompt_opened_come_first(
    walker_of: Callable[[tuple[str, ...]], Walker], name: str, case: str
) -> None:
    """Each answer has its calls or content behind the thoughts."""
    answers = walk_all(walker_of(()), name, case, range(12), begins_in_reasoning=True)

    assert answers
    for found in answers:
        assert found.calls or found.content

"""Calls with bare values: which a function's schema allows, and which schemas are refused."""

import json
from typing import Any

import pytest

from headrace.common.v1 import errors_pb2
from headrace.rpc.errors import ServiceError
from headrace.tokenizer.v1.render_pb2 import ToolChoice
from headrace.worker.v1.generation_pb2 import Guide
from tests.support.guided_walks import Walker, read
from tokenizer_svc.formats.catalog import FormatCatalog
from tokenizer_svc.formats.parameter_values import parameter_types
from tokenizer_svc.guides.answers import AskedAnswer
from tokenizer_svc.guides.checking import GuideChecker
from tokenizer_svc.tool_mapping import ToolSpec


@pytest.fixture(scope="module")
def walker() -> Walker:
    """What compiles guides as a worker does."""
    return Walker()


def guide_of(value: Any, name: str = "f", **more: Any) -> Guide:
    """The guide of one call of a function with one required parameter."""
    schema = {"type": "object", "properties": {"v": value}, "required": ["v"], **more}
    found = FormatCatalog().find("qwen3_coder")
    assert found is not None
    tools = [ToolSpec(0, name, None, schema, strict=False)]
    asked = AskedAnswer(found, tools, ToolChoice(required=True), None, False, {}, 4096)
    guide = GuideChecker().guide(asked)
    assert guide is not None
    return guide


def call(value: str) -> str:
    """The call with that value."""
    return (
        f"<tool_call>\n<function=f>\n<parameter=v>\n{value}\n</parameter>\n"
        "</function>\n</tool_call>"
    )


@pytest.mark.parametrize(
    ("value", "allowed", "others"),
    [
        ({"type": "string"}, ["", "a\n<b>", '"12"', "12"], ["a</parameter>"]),
        ({"enum": ["a/b", "c d\n"]}, ["a/b", "c d\n"], ["a", "c d"]),
        ({"type": "string", "pattern": "^a+/?$"}, ["aa", "a/"], ["ab", "ba"]),
        ({"type": "string", "pattern": "a|b"}, ["xay", "b"], ["x"]),
        ({"type": "string", "maxLength": 2}, ["ab", ""], ["abc"]),
        ({"type": "string", "maxLength": 128}, ["\n" * 128, "<" * 128], ["a" * 129]),
        ({"type": "string", "minLength": 128}, ["a" * 128], ["a" * 127]),
        ({"type": "integer", "minimum": 7}, ["7", "12"], ["6", "x"]),
        ({"type": "array", "items": {"type": "string"}}, ["[]", '["</parameter>"]'], ["a", "[1]"]),
        ({"type": ["string", "null"]}, ["null", "text", "nulls"], []),
        ({"type": ["string", "integer"]}, ["12", "a1"], ["1a", " 2"]),
        ({"anyOf": [{"enum": ["x"]}, {"type": "boolean"}]}, ["x", "true"], ["y"]),
        ({"$ref": "#/$defs/d"}, ["1", "2"], ["3", '"1"']),
        ({}, ["anything"], []),
    ],
)
def test_values_follow_their_schema(
    walker: Walker, value: dict[str, Any], allowed: list[str], others: list[str]
) -> None:
    """What is allowed is read as one whole call; what is not cannot be written."""
    definitions = {"d": {"enum": [1, 2]}}
    guide = guide_of(value, "f", **{"$defs": definitions})
    types = {"f": parameter_types({"properties": {"v": value}, "$defs": definitions})}
    found = FormatCatalog().find("qwen3_coder")
    assert found is not None
    for text in allowed:
        assert walker.allows(guide, call(text)), text
        parser = found.parser(types, begins_in_reasoning=False)
        [(_, arguments)] = read(parser, call(text)).calls
        assert list(json.loads(arguments)) == ["v"]
    for text in others:
        assert not walker.allows(guide, call(text)), text


@pytest.mark.parametrize(
    ("value", "more", "named"),
    [
        ({"type": "string", "format": "date"}, {}, "format"),
        ({"type": "string", "pattern": "^a|b"}, {}, "anchor"),
        ({"type": "string", "pattern": "(?=a)"}, {}, "look-around"),
        ({"enum": ["a</parameter>"]}, {}, "enum"),
        ({"enum": ["1", 1]}, {}, "enum"),
        ({"not": {}}, {}, "not"),
        ({"type": "string", "maxLength": 129}, {}, "maxLength above 128"),
        (False, {}, "false"),
        ({"type": "integer"}, {"minProperties": 2}, "minProperties"),
        ({"type": "integer"}, {"required": ["w"]}, "required names w"),
        ({"type": "integer"}, {"name": "f>"}, "name"),
        ({"type": "integer", "multipleOf": 0.3, "minimum": 0.1, "not": {}}, {}, "not"),
    ],
)
def test_what_bare_values_cannot_say_is_refused(
    value: Any, more: dict[str, Any], named: str
) -> None:
    """The refusal names the keyword and the function."""
    with pytest.raises(ServiceError, match=named) as refused:
        guide_of(value, **more)

    assert refused.value.reason == errors_pb2.ERROR_REASON_INVALID_REQUEST
    assert refused.value.param == "tools[0].parameters"

"""Functions on the wire: what is taken of them, and what is refused by name."""

import json
from typing import Any

import pytest

from headrace.common.v1 import errors_pb2
from headrace.rpc.errors import ServiceError
from headrace.tokenizer.v1.render_pb2 import Function, ToolChoice
from tokenizer_svc.settings import LimitSettings
from tokenizer_svc.tool_mapping import ToolSpec, check_tool_choice, tool_specs

LIMITS = LimitSettings(max_schema_characters=1000)
SCHEMA: dict[str, Any] = {"type": "object", "properties": {"é": {"const": [1, 1.5, None, "x"]}}}


def test_all_is_kept_and_what_is_unset_is_none() -> None:
    """Descriptions and schemas that are not there are told from empty ones."""
    tools = [
        Function(name="f", description="", parameters=json.dumps(SCHEMA), strict=True),
        Function(name="g" * 64),
        Function(name="h", parameters="{}"),
    ]

    assert tool_specs(tools, LIMITS) == (
        ToolSpec(0, "f", "", SCHEMA, strict=True),
        ToolSpec(1, "g" * 64, None, None, strict=False),
        ToolSpec(2, "h", None, {}, strict=False),
    )


def nested(depth: int) -> str:
    return '{"a":' * depth + "1" + "}" * depth


@pytest.mark.parametrize(
    ("tools", "param", "part"),
    [
        ([Function(name=f"f{index}") for index in range(129)], "tools", "129 entries; at most 128"),
        ([Function(name="f"), Function(name="")], "tools[1].name", "0 characters"),
        ([Function(name="f" * 65)], "tools[0].name", "65 characters"),
        ([Function(name="f"), Function(name="g"), Function(name="f")], "tools[2].name", "`f`"),
        ([Function(name="f", parameters=" " * 1001)], "tools", "1001 characters; at most 1000"),
        ([Function(name="f", parameters="{")], "tools[0].parameters", "Expecting"),
        ([Function(name="f", parameters="[]")], "tools[0].parameters", "no object"),
        ([Function(name="f", parameters=nested(65))], "tools[0].parameters", "deeper than 64"),
        ([Function(name="f", parameters='{"a":1,"a":2}')], "tools[0].parameters", "twice"),
        ([Function(name="f", parameters='{"a":NaN}')], "tools[0].parameters", "NaN"),
        ([Function(name="f", parameters='{"a":1e999}')], "tools[0].parameters", "too large"),
        ([Function(name="f", parameters='{"a":"\\ud800"}')], "tools[0].parameters", "surrogates"),
    ],
)
def test_what_is_no_function_is_refused_by_name(
    tools: list[Function], param: str, part: str
) -> None:
    """The parameter says which function, the message says why."""
    with pytest.raises(ServiceError) as caught:
        tool_specs(tools, LIMITS)

    assert caught.value.reason == errors_pb2.ERROR_REASON_INVALID_REQUEST
    assert caught.value.param == param
    assert part in str(caught.value)


def test_schemas_within_the_bounds_are_taken() -> None:
    """The deepest that is allowed, and one of many small parts."""
    wide = json.dumps({"enum": list(range(30_000))})

    [deep] = tool_specs([Function(name="f", parameters=nested(64))], LIMITS)
    [huge] = tool_specs([Function(name="f", parameters=wide)], LimitSettings())
    assert deep.parameters is not None
    assert huge.parameters == {"enum": list(range(30_000))}
    with pytest.raises(ServiceError, match="more than 50000"):
        tool_specs([Function(name="f", parameters="{" + "," * 50_000)], LimitSettings())


def test_a_choice_is_among_the_tools() -> None:
    """Without tools there is nothing to choose, and nobody's name is refused."""
    tools = [Function(name="f"), Function(name="g")]

    check_tool_choice(ToolChoice(required=True, allowed_names=["g"]), tools)
    for choice, given, part in (
        (ToolChoice(allowed_names=["g", "h"]), tools, "`h`"),
        (ToolChoice(), [], "no tools"),
    ):
        with pytest.raises(ServiceError, match=part) as caught:
            check_tool_choice(choice, given)
        assert caught.value.param == "tool_choice"

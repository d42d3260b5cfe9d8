"""Cases of the fields that a prompt and its guide are made of: tools, choices, formats."""

from collections.abc import Mapping

from headrace.client.prompt_request import ContentGuide
from tests.conformance.field_case import FieldCase, Refusal, choice, guide, one_of, unknown

_OFFERED = {"tools": [{"type": "function", "function": {"name": "f"}}]}
_OLDER = {"functions": [{"name": "f"}]}
TOOL_CASES: Mapping[str, FieldCase] = {
    "tools": FieldCase(
        asked=_OFFERED["tools"],
        see=lambda seen: seen.functions,
        expected=["f"],
        neutral=([], [None]),
        wrong=({}, "an array of objects"),
        outside=Refusal(
            [{"type": "x"}], unknown("x", "function", "custom"), "invalid_value", "tools[0].type"
        ),
    ),
    "tool_choice": choice(
        _OFFERED,
        "required",
        lambda choice: choice.required,
        expected=True,
        outside=one_of("sometimes", "none", "auto", "required"),
    ),
    "parallel_tool_calls": FieldCase(
        asked=False,
        see=lambda seen: seen.prompt.tool_choice.single_call,
        expected=True,
        neutral=(True,),
        wrong=("no", "a boolean"),
        beside=_OFFERED,
    ),
    "functions": FieldCase(
        asked=_OLDER["functions"],
        see=lambda seen: seen.functions,
        expected=["f"],
        neutral=([], [None]),
        wrong=("f", "an array of objects"),
    ),
    "function_call": choice(
        _OLDER,
        {"name": "f"},
        lambda choice: choice.allowed_names,
        expected=("f",),
        outside=one_of("required", "none", "auto"),
    ),
}

_FORMAT = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "string"}}}
GUIDE_CASES: Mapping[str, FieldCase] = {
    "response_format": FieldCase(
        asked=_FORMAT,
        see=lambda seen: seen.prompt.content_guide,
        expected=ContentGuide("json_schema", '{"type":"string"}'),
        neutral=({"type": "text"},),
        wrong=("json", "an object"),
        outside=Refusal(
            {"type": "x"},
            unknown("x", "text", "json_object", "json_schema"),
            "invalid_value",
            "response_format.type",
        ),
    ),
    "guided_json": guide({}, ContentGuide("json_schema", "{}"), "one of a string or object"),
    "guided_regex": guide("a+", ContentGuide("regex", "a+"), "a string"),
    "guided_choice": guide(["a"], ContentGuide("choice", '["a"]'), "an array of strings", "a"),
    "guided_grammar": guide("start: /a/", ContentGuide("grammar", "start: /a/"), "a string"),
    "structured_outputs": guide(
        {"json_object": True}, ContentGuide("json_object"), "an object", "json"
    ),
}

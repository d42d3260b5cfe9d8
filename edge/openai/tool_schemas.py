"""JSON Schemas of tools, functions, the choice among them, and the format of the answer.

They cannot say that a choice needs what is chosen from, nor what is demanded only of functions that
may be called or of schemas that are strict.
"""

from edge.openai import checks
from edge.openai.checks import Schema
from edge.openai.guide_checks import FORMAT_KINDS
from edge.openai.message_schemas import nullable, object_schema
from edge.openai.thinking import template_switches
from edge.openai.tool_choices import ALLOWED_MODES, LEGACY_MODES, MAX_ALLOWED, MODES, Offer
from edge.openai.tools import MAX_TOOLS, TOOL_KIND, TOOL_NAME

_TEXT: Schema = {"type": "string"}
_NAME: Schema = {"type": "string", "minLength": 1}
_NULL: Schema = {"type": "null"}


def tools_schema(*, strict: bool) -> Schema:
    """`tools`; `strict` as `Profile.strict_messages` has it. Custom ones may not be called."""
    kinds = [
        object_schema({"type": {"const": kind}, kind: _function(strict=strict)}, "type", kind)
        for kind in TOOL_KIND.supported
    ]
    return _entries({"oneOf": kinds} if strict else {})


def functions_schema(*, strict: bool) -> Schema:
    """`functions`."""
    return _entries(_function(strict=strict))


def choice_schema(offer: Offer) -> Schema:
    """`tool_choice` or `function_call`."""
    named = object_schema({"name": _NAME}, "name")
    if offer == "functions":
        return {"anyOf": [{"enum": list(LEGACY_MODES)}, named]}
    function = _typed("function", named)
    allowed = object_schema(
        {
            "mode": {"enum": list(ALLOWED_MODES)},
            "tools": {
                "type": "array",
                "items": function,
                "minItems": 1,
                "maxItems": MAX_ALLOWED,
            },
        },
        "mode",
        "tools",
    )
    return {"anyOf": [{"enum": list(MODES)}, function, _typed("allowed_tools", allowed)]}


def format_schema(*, strict: bool) -> Schema:
    """`response_format`; the others take a schema beside the type as well."""
    text, json_object, json_schema = FORMAT_KINDS.supported
    kinds = [object_schema({"type": {"const": text}}, "type")]
    named = object_schema(
        {
            "name": TOOL_NAME.schema() if strict else nullable(_TEXT),
            "schema": checks.json_object.schema(),
            "description": nullable(_TEXT),
            "strict": nullable(checks.boolean.schema()),
        },
        *(("name", "schema") if strict else ("schema",)),
    )
    beside: Schema = dict(_NULL) if strict else nullable(checks.json_object.schema())
    kinds.append(object_schema({"type": {"const": json_object}, "schema": beside}, "type"))
    kinds.append(_typed(json_schema, named))
    if not strict:
        properties = {
            "type": {"const": json_schema},
            "json_schema": dict(_NULL),
            "schema": checks.json_object.schema(),
        }
        kinds.append(object_schema(properties, "type", "schema"))
    return {"anyOf": kinds}


def switches_schema(*, strict: bool) -> Schema:
    """`chat_template_kwargs`; `strict` as `Profile.strict` has it."""
    schema = template_switches.schema()
    return {**schema, "additionalProperties": dict(_NULL)} if strict else schema


def _typed(kind: str, inner: Schema) -> Schema:
    return object_schema({"type": {"const": kind}, kind: inner}, "type", kind)


def _entries(item: Schema) -> Schema:
    return {
        "type": "array",
        "items": nullable(item),
        "contains": {"not": {"type": "null"}},
        "minContains": 0,
        "maxContains": MAX_TOOLS,
    }


def _function(*, strict: bool) -> Schema:
    if not strict:
        return {}
    properties = {
        "name": TOOL_NAME.schema(),
        "description": nullable(_TEXT),
        "parameters": nullable(checks.json_object.schema()),
        "strict": nullable(checks.boolean.schema()),
    }
    return object_schema(properties, "name")

"""JSON Schemas of a request's messages, tools and functions, from the tables that check them.

They cannot say that tool calls and results belong together, which strict profiles demand, nor
that nested JSON has a depth.
"""

from edge.openai import checks
from edge.openai.checks import Schema
from edge.openai.messages import (
    ANY_MESSAGE_NAME,
    COMMON_KEYS,
    KNOWN_KEYS,
    MAX_MESSAGES,
    MESSAGE_NAME,
    ROLES,
)
from edge.openai.tool_history import ANY_FUNCTION_NAME, CALL_ID, FUNCTION_NAME, MAX_TOOL_CALLS
from edge.openai.tools import MAX_TOOLS, TOOL_KIND, TOOL_NAME

_TEXT: Schema = {"type": "string"}


def nullable(schema: Schema) -> Schema:
    """The same or null."""
    kind = schema.get("type")
    if not schema or kind == "null":
        return dict(schema)
    if isinstance(kind, str) and not schema.keys() & {"enum", "const"}:
        return {**schema, "type": [kind, "null"]}
    return {"anyOf": [schema, {"type": "null"}]}


def messages_schema(*, strict: bool) -> Schema:
    """The array of messages; `strict` as `Profile.strict_messages` has it."""
    return {
        "type": "array",
        "minItems": 1,
        "maxItems": MAX_MESSAGES,
        "items": {"oneOf": [_message(role, strict=strict) for role in ROLES]},
    }


def tools_schema(*, strict: bool) -> Schema:
    """`tools`: with `tool_choice` none, which a schema cannot say."""
    kinds = [
        _object({"type": {"const": kind}, kind: _function(strict=strict)}, "type", kind)
        for kind in TOOL_KIND.supported
    ]
    return _entries({"oneOf": kinds} if strict else {})


def functions_schema(*, strict: bool) -> Schema:
    """`functions`: with `function_call` none, which a schema cannot say."""
    return _entries(_function(strict=strict))


def choice_schema() -> Schema:
    """`tool_choice` and `function_call`, as far as they are honoured."""
    return {"enum": ["none", "auto"]}


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
    return _object(properties, "name")


def _message(role: str, *, strict: bool) -> Schema:
    name = MESSAGE_NAME if strict else ANY_MESSAGE_NAME
    properties: dict[str, Schema] = {
        "role": {"const": role},
        "content": _content(role),
        "name": nullable(name.schema()),
    }
    required = ["role"]
    if role != "assistant":
        required.append("content")
    extra = KNOWN_KEYS.get(role, COMMON_KEYS) - COMMON_KEYS
    properties.update({key: _extra(key, strict=strict) for key in sorted(extra)})
    if strict and role == "tool":
        properties["tool_call_id"] = CALL_ID.schema()
        required.append("tool_call_id")
    if strict and role == "function":
        properties["name"] = name.schema()
        required.append("name")
    message = _object(properties, *required)
    return {**message, "anyOf": _something_said()} if strict and role == "assistant" else message


def _content(role: str) -> Schema:
    kinds = ("text", "refusal") if role == "assistant" else ("text",)
    parts = [_object({"type": {"const": kind}, kind: _TEXT}, "type", kind) for kind in kinds]
    array = {
        "type": "array",
        "minItems": 1,
        "maxItems": MAX_MESSAGES,
        "items": parts[0] if len(parts) == 1 else {"oneOf": parts},
    }
    schema: Schema = {"anyOf": [_TEXT, array]}
    return nullable(schema) if role in ("assistant", "function") else schema


def _extra(key: str, *, strict: bool) -> Schema:
    """A key that not every role has. An assistant's audio is refused by name."""
    schemas: dict[str, Schema] = {
        "audio": {"type": "null"},
        "function_call": nullable(_called(strict=strict)),
        "reasoning_content": nullable(_TEXT),
        "refusal": nullable(_TEXT),
        "tool_call_id": nullable(CALL_ID.schema()),
        "tool_calls": nullable(
            {
                "type": "array",
                "maxItems": MAX_TOOL_CALLS,
                "items": nullable(_tool_call(strict=strict)),
            }
        ),
    }
    return schemas[key]


def _something_said() -> list[Schema]:
    """One of these an assistant's message must have."""
    filled = {"type": "string", "minLength": 1}
    return [
        _object({"content": {"type": ["string", "array"]}}, "content"),
        _object({"tool_calls": {"contains": {"type": "object"}, "type": "array"}}, "tool_calls"),
        _object({"function_call": {"type": "object"}}, "function_call"),
        _object({"refusal": filled}, "refusal"),
        _object({"reasoning_content": filled}, "reasoning_content"),
    ]


def _tool_call(*, strict: bool) -> Schema:
    kind: Schema = {"const": "function"}
    if not strict:
        properties = {"type": nullable(kind), "id": nullable(CALL_ID.schema())}
        return _object({**properties, "function": _called(strict=False)}, "function")
    properties = {"type": kind, "id": {**CALL_ID.schema(), "minLength": 1}}
    return _object({**properties, "function": _called(strict=True)}, "type", "id", "function")


def _called(*, strict: bool) -> Schema:
    if strict:
        properties = {"name": FUNCTION_NAME.schema(), "arguments": _TEXT}
        return _object(properties, "name", "arguments")
    arguments = {"type": ["string", "object", "null"]}
    return _object({"name": ANY_FUNCTION_NAME.schema(), "arguments": arguments}, "name")


def _object(properties: dict[str, Schema], *required: str) -> Schema:
    schema: Schema = {**checks.json_object.schema(), "properties": properties}
    return {**schema, "required": list(required)} if required else schema

"""JSON Schemas of a request's messages, from the tables that check them.

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

_TEXT: Schema = {"type": "string"}


def nullable(schema: Schema) -> Schema:
    """The same or null."""
    kind = schema.get("type")
    if not schema or kind == "null":
        return dict(schema)
    if isinstance(kind, str) and not schema.keys() & {"enum", "const"}:
        return {**schema, "type": [kind, "null"]}
    return {"anyOf": [schema, {"type": "null"}]}


def object_schema(properties: dict[str, Schema], *required: str) -> Schema:
    """An object with these properties, of which some are required."""
    schema: Schema = {**checks.json_object.schema(), "properties": properties}
    return {**schema, "required": list(required)} if required else schema


def messages_schema(*, strict: bool) -> Schema:
    """The array of messages; `strict` as `Profile.strict_messages` has it."""
    return {
        "type": "array",
        "minItems": 1,
        "maxItems": MAX_MESSAGES,
        "items": {"oneOf": [_message(role, strict=strict) for role in ROLES]},
    }


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
    message = object_schema(properties, *required)
    return {**message, "anyOf": _something_said()} if strict and role == "assistant" else message


def _content(role: str) -> Schema:
    kinds = ("text", "refusal") if role == "assistant" else ("text",)
    parts = [object_schema({"type": {"const": kind}, kind: _TEXT}, "type", kind) for kind in kinds]
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
        object_schema({"content": {"type": ["string", "array"]}}, "content"),
        object_schema(
            {"tool_calls": {"contains": {"type": "object"}, "type": "array"}}, "tool_calls"
        ),
        object_schema({"function_call": {"type": "object"}}, "function_call"),
        object_schema({"refusal": filled}, "refusal"),
        object_schema({"reasoning_content": filled}, "reasoning_content"),
    ]


def _tool_call(*, strict: bool) -> Schema:
    kind: Schema = {"const": "function"}
    if not strict:
        properties = {"type": nullable(kind), "id": nullable(CALL_ID.schema())}
        return object_schema({**properties, "function": _called(strict=False)}, "function")
    properties = {"type": kind, "id": {**CALL_ID.schema(), "minLength": 1}}
    return object_schema({**properties, "function": _called(strict=True)}, "type", "id", "function")


def _called(*, strict: bool) -> Schema:
    if strict:
        properties = {"name": FUNCTION_NAME.schema(), "arguments": _TEXT}
        return object_schema(properties, "name", "arguments")
    arguments = {"type": ["string", "object", "null"]}
    return object_schema({"name": ANY_FUNCTION_NAME.schema(), "arguments": arguments}, "name")

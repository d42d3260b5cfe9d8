"""What OpenAI demands of a schema that is marked `strict`.

Source: its guide "Structured outputs", supported schemas, and the messages that its API gives. A
schema that passes may still hold what a guide cannot enforce; that is for those who make guides.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from edge.openai import problems

MAX_LEVELS = 10
MAX_PROPERTIES = 5000
MAX_ENUM_VALUES = 1000
MAX_NAME_CHARACTERS = 120_000
_NOT_AT_TOP = ("oneOf", "anyOf", "allOf", "enum", "not")
_NOT_PERMITTED = (
    *("oneOf", "allOf", "not", "if", "then", "else"),
    *("dependentRequired", "dependentSchemas", "patternProperties", "unevaluatedProperties"),
)
_TYPED_BY = ("type", "anyOf", "$ref", "enum", "const")
_Context = tuple[str, ...]


@dataclass(slots=True)
class _Counts:
    """Sums over the whole schema."""

    properties: int = 0
    enum_values: int = 0
    name_characters: int = 0


def strict_schema_problem(schema: Mapping[str, Any]) -> str | None:
    """The first rule that the schema breaks, in OpenAI's words; None = it keeps all of them.

    At most so deep as the schema is nested, which the caller bounds.
    """
    kind = schema.get("type")
    if kind != "object" and not any(name in schema for name in _NOT_AT_TOP):
        return f"""schema must be a JSON Schema of 'type: "object"', got 'type: "{kind}"'."""
    if kind != "object" or any(name in schema for name in _NOT_AT_TOP):
        listed = "/".join(f"'{name}'" for name in _NOT_AT_TOP)
        return f"schema must have type 'object' and not have {listed} at the top level."
    counts = _Counts()
    return next(_problems(schema, (), 1, counts), None) or _count_problem(counts)


def _problems(node: Any, context: _Context, level: int, counts: _Counts) -> Iterator[str]:
    where = f"In context={context!r}, "
    if not isinstance(node, dict):
        yield f"{where}schema must be an object."
        return
    yield from (f"{where}{problem}" for problem in _own_problems(node))
    if level > MAX_LEVELS:
        yield f"{level} levels of nesting exceeds limit of {MAX_LEVELS}."
    is_object, path = _is_object(node)
    if is_object:
        inner = f"In context={(*context, *path)!r}, "
        yield from (f"{inner}{problem}" for problem in _object_problems(node))
    _count(node, counts)
    for place, child in _children(node):
        below = level + (place[0] in ("properties", "items"))
        yield from _problems(child, (*context, *place), below, counts)


def _own_problems(node: Mapping[str, Any]) -> Iterator[str]:
    if not any(name in node for name in _TYPED_BY):
        yield "schema must have a 'type' key."
    for name in _NOT_PERMITTED:
        if name in node:
            yield f"'{name}' is not permitted."
    if node.get("type") == "array" and "items" not in node:
        yield "array schema missing items."
    for name, kind in (("properties", dict), ("$defs", dict), ("anyOf", list), ("enum", list)):
        if name in node and not isinstance(node[name], kind):
            yield f"'{name}' must be an {'object' if kind is dict else 'array'}."


def _is_object(node: Mapping[str, Any]) -> tuple[bool, _Context]:
    """Whether objects pass, and where that stands if not in `type` itself."""
    kind = node.get("type")
    if isinstance(kind, list) and "object" in kind:
        return True, ("type", str(kind.index("object")))
    return kind == "object" or (kind is None and "properties" in node), ()


def _object_problems(node: Mapping[str, Any]) -> Iterator[str]:
    if node.get("additionalProperties") is not False:
        yield "'additionalProperties' is required to be supplied and to be false."
    properties, required = node.get("properties", {}), node.get("required", [])
    if not isinstance(properties, dict):
        return
    listed = [str(name) for name in required] if isinstance(required, list) else []
    known = frozenset(listed)
    text = "'required' is required to be supplied and to be an array including every key in"
    for name in properties:
        if name not in known:
            yield f"{text} properties. Missing '{problems.shown(name)}'."
    for name in listed:
        if name not in properties:
            yield f"{text} properties. Extra required key '{problems.shown(name)}' supplied."


def _children(node: Mapping[str, Any]) -> Iterator[tuple[_Context, Any]]:
    for group in ("properties", "$defs", "definitions"):
        if isinstance(node.get(group), dict):
            for name, child in node[group].items():
                yield (group, problems.shown(name)), child
    if "items" in node:
        yield ("items",), node["items"]
    if isinstance(node.get("anyOf"), list):
        for index, child in enumerate(node["anyOf"]):
            yield ("anyOf", str(index)), child


def _count(node: Mapping[str, Any], counts: _Counts) -> None:
    names = [
        name
        for group in ("properties", "$defs", "definitions")
        if isinstance(node.get(group), dict)
        for name in node[group]
    ]
    counts.properties += len(node["properties"]) if isinstance(node.get("properties"), dict) else 0
    values = node["enum"] if isinstance(node.get("enum"), list) else []
    counts.enum_values += len(values)
    texts = [value for value in (*values, node.get("const")) if isinstance(value, str)]
    counts.name_characters += sum(map(len, (*names, *texts)))


def _count_problem(counts: _Counts) -> str | None:
    bounds = (
        ("object properties", counts.properties, MAX_PROPERTIES),
        ("enum values", counts.enum_values, MAX_ENUM_VALUES),
        ("characters of names, enum and const values", counts.name_characters, MAX_NAME_CHARACTERS),
    )
    for what, count, most in bounds:
        if count > most:
            return f"{count} {what} exceeds limit of {most}."
    return None

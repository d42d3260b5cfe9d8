"""Values that a model wrote as bare text, and the JSON that the function's schema makes of them."""

import json
import re
from collections.abc import Mapping
from typing import Any

from tokenizer_svc.formats.json_scanner import JsonScanner

_TYPES_BY_FIRST_CHARACTER = {"{": "object", "[": "array", '"': "string", "t": "boolean"} | {
    "f": "boolean",
    "n": "null",
}
_CONSTANTS = {"True": "true", "False": "false", "None": "null"}
_INTEGER = re.compile(r"-?[0-9]+")
COMBINATIONS = ("anyOf", "oneOf")
_MOST_REFERENCES = 16


def is_string(types: frozenset[str]) -> bool:
    """Whether a value of these types is a string whatever it says; so is one of unknown type."""
    return not types or types == {"string"}


def json_of(value: str, types: frozenset[str]) -> str:
    """The value's JSON: as it stands where that is of one of the types, else as a string."""
    text = value.strip()
    text = _CONSTANTS.get(text, text)
    if _json_types(text) & (types - {"string"}):
        return text
    return json.dumps(value, ensure_ascii=False)


def _json_types(text: str) -> set[str]:
    """Of which types the text is JSON; none where it is not JSON."""
    scanner = JsonScanner()
    length = scanner.scan(text + " ", 0, len(text) + 1)  # the blank ends a number
    if not scanner.is_done or scanner.is_broken or length != len(text):
        return set()
    found = _TYPES_BY_FIRST_CHARACTER.get(text[0])
    if found is not None:
        return {found}
    return {"number", "integer"} if _INTEGER.fullmatch(text) else {"number"}


def schema_types(schema: Any, whole: Any = None) -> frozenset[str]:
    """The JSON types that a property's schema names, itself, in its values or its alternatives.

    References are followed in the `whole` schema, of which it is a part.
    """
    return frozenset(_types(schema, whole, _MOST_REFERENCES))


def _types(schema: Any, whole: Any, most: int) -> set[str]:
    schema = resolved(schema, whole)
    types = named_types(schema) or _value_types(schema)
    for combination in (*COMBINATIONS, "allOf") if most else ():
        alternatives = schema.get(combination)
        for alternative in alternatives if isinstance(alternatives, list) else []:
            types |= _types(alternative, whole, most - 1)
    return types


def resolved(schema: Any, whole: Any) -> Mapping[str, Any]:
    """A schema with that to which it refers; empty where it is none or refers to nothing."""
    for _ in range(_MOST_REFERENCES):
        if not isinstance(schema, Mapping):
            return {}
        if "$ref" not in schema:
            return schema
        target = referred(schema["$ref"], whole)
        beside = {name: value for name, value in schema.items() if name != "$ref"}
        schema = {**target, **beside} if isinstance(target, Mapping) else None
    return {}


def referred(reference: Any, whole: Any) -> Any:
    """The part of the whole schema that a reference names; None where it names none."""
    if not isinstance(reference, str) or not reference.startswith("#"):
        return None
    found = whole
    for part in reference[1:].split("/")[1:]:
        key = part.replace("~1", "/").replace("~0", "~")
        found = found.get(key) if isinstance(found, Mapping) else None
    return found


def named_types(schema: Mapping[str, Any]) -> set[str]:
    """The types that a schema names itself."""
    named = schema.get("type")
    names = named if isinstance(named, list) else [named]
    return {name for name in names if isinstance(name, str)}


def _value_types(schema: Mapping[str, Any]) -> set[str]:
    values = [schema["const"]] if "const" in schema else schema.get("enum")
    return {name for value in values or () for name in json_type(value)}


def json_type(value: Any) -> set[str]:
    """The names that a value's JSON type has."""
    return _json_types(json.dumps(value, ensure_ascii=False)) or {"string"}


def parameter_types(schema: Any) -> dict[str, frozenset[str]]:
    """The types of a function's parameters, from the schema of all of them."""
    properties = schema.get("properties") if isinstance(schema, Mapping) else None
    if not isinstance(properties, Mapping):
        return {}
    return {str(name): schema_types(value, schema) for name, value in properties.items()}

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
_COMBINATIONS = ("anyOf", "oneOf")


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


def schema_types(schema: Any) -> frozenset[str]:
    """The JSON types that a property's schema names, itself or in its alternatives."""
    if not isinstance(schema, Mapping):
        return frozenset()
    types = _named_types(schema)
    for combination in _COMBINATIONS:
        alternatives = schema.get(combination)
        for alternative in alternatives if isinstance(alternatives, list) else []:
            types |= _named_types(alternative)
    return frozenset(types)


def _named_types(schema: Any) -> set[str]:
    named = schema.get("type") if isinstance(schema, Mapping) else None
    names = named if isinstance(named, list) else [named]
    return {name for name in names if isinstance(name, str)}


def parameter_types(schema: Any) -> dict[str, frozenset[str]]:
    """The types of a function's parameters, from the schema of all of them."""
    properties = schema.get("properties") if isinstance(schema, Mapping) else None
    if not isinstance(properties, Mapping):
        return {}
    return {str(name): schema_types(value) for name, value in properties.items()}

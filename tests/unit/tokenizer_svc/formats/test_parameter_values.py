"""Bare values and the types that a schema gives them."""

import json
from typing import Any

import pytest

from tokenizer_svc.formats.parameter_values import json_of, parameter_types


@pytest.mark.parametrize(
    ("value", "types", "expected"),
    [
        ("3", {"integer"}, 3),
        (" -3 ", {"integer"}, -3),
        ("3.0", {"integer"}, "3.0"),
        ("3e2", {"number"}, 300.0),
        ("3", {"number"}, 3),
        ("03", {"integer"}, "03"),
        ("true", {"boolean"}, True),
        ("False", {"boolean"}, False),
        ("yes", {"boolean"}, "yes"),
        ("None", {"null", "string"}, None),
        ("null", {"integer"}, "null"),
        ('{"a": [1]}', {"object"}, {"a": [1]}),
        ('{"a": [1]', {"object"}, '{"a": [1]'),
        ("[1] [2]", {"array"}, "[1] [2]"),
        ("[]", {"object"}, "[]"),
        ('"a"', {"string", "null"}, '"a"'),
        ("7", {"string", "integer"}, 7),
        ("", {"integer"}, ""),
    ],
)
def test_a_value_of_a_type(value: str, types: set[str], expected: Any) -> None:
    """JSON of one of the types stands as it is; everything else is a string, as it was written."""
    assert json.loads(json_of(value, frozenset(types))) == expected


@pytest.mark.parametrize(
    ("schema", "expected"),
    [
        ({"properties": {"a": {"type": "integer"}}}, {"a": {"integer"}}),
        ({"properties": {"a": {"type": ["integer", "null", 3]}}}, {"a": {"integer", "null"}}),
        (
            {"properties": {"a": {"anyOf": [{"type": "array"}, {"type": "null"}, 3]}, "b": True}},
            {"a": {"array", "null"}, "b": set()},
        ),
        ({"properties": {"a": {"enum": ["x", 1]}}}, {"a": {"string", "integer", "number"}}),
        (
            {"properties": {"a": {"$ref": "#/$defs/b"}}, "$defs": {"b": {"type": "array"}}},
            {"a": {"array"}},
        ),
        (
            {"properties": {"a": {"$ref": "#/$defs/a"}}, "$defs": {"a": {"$ref": "#/$defs/a"}}},
            {"a": set()},
        ),
        ({"properties": []}, {}),
        ({}, {}),
        ([], {}),
    ],
)
def test_the_types_of_a_schema(schema: Any, expected: dict[str, set[str]]) -> None:
    """What a schema says in a way that is not understood is no type."""
    assert parameter_types(schema) == expected

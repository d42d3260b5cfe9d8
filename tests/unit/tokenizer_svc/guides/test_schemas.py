"""Schemas of arguments: what is closed, what stays open, what is refused."""

from typing import Any

import pytest

from tokenizer_svc.formats.call_grammar import UnwritableFunctionError
from tokenizer_svc.guides.schemas import NO_ARGUMENTS, Bounds, arguments_schema

BOUNDS = Bounds(characters=500, items=20)
INNER: dict[str, Any] = {"properties": {"b": {"type": "integer"}}}
CLOSED: dict[str, Any] = {**INNER, "additionalProperties": False}


def test_no_schema_is_no_arguments() -> None:
    """A function without parameters takes an empty object alone."""
    assert arguments_schema(None, BOUNDS) == NO_ARGUMENTS


@pytest.mark.parametrize(
    ("schema", "expected"),
    [
        (INNER, CLOSED),
        (
            {"properties": {"a": INNER}},
            {"properties": {"a": CLOSED}, "additionalProperties": False},
        ),
        (
            {"properties": {"a": {"items": INNER}}, "$defs": {"d": INNER}},
            {
                "properties": {"a": {"items": CLOSED}},
                "$defs": {"d": CLOSED},
                "additionalProperties": False,
            },
        ),
        ({"anyOf": [INNER, INNER]}, {"anyOf": [CLOSED, CLOSED]}),
        (
            {"properties": {"a": {"enum": [INNER]}, "b": {"const": INNER}}},
            {
                "properties": {"a": {"enum": [INNER]}, "b": {"const": INNER}},
                "additionalProperties": False,
            },
        ),
        ({"properties": {"properties": INNER}, "additionalProperties": False}, None),
    ],
)
def test_members_that_are_not_named_are_not_written(
    schema: dict[str, Any], expected: dict[str, Any] | None
) -> None:
    """Every object that names its members is closed; values that look like schemas stay."""
    if expected is None:
        expected = {"properties": {"properties": CLOSED}, "additionalProperties": False}
    assert arguments_schema(schema, BOUNDS) == {**expected, "type": "object"}


@pytest.mark.parametrize(
    "schema",
    [
        {},
        {"properties": {}},
        {"properties": {"a": {}}, "required": ["a", "b"]},
        {"properties": {"a": {}}, "patternProperties": {"^x": {}}},
        {"properties": {"a": {}}, "additionalProperties": {"type": "integer"}},
        {"properties": {"a": {}}, "minProperties": 2},
        {"allOf": [INNER, {"properties": {"c": {}}}]},
        {"properties": {"a": {}}, "anyOf": [INNER, {"required": ["a"]}]},
        {
            "properties": {"a": {"$ref": "#/$defs/d", "properties": {"c": {}}}},
            "$defs": {"d": INNER},
        },
    ],
)
def test_what_says_more_of_members_stays_open(schema: dict[str, Any]) -> None:
    """Closing it could contradict another part of the schema."""
    assert arguments_schema(schema, BOUNDS) == {**schema, "type": "object"}


@pytest.mark.parametrize(
    ("schema", "named"),
    [
        ({"type": "string"}, "type"),
        ({"type": ["string", "null"]}, "type"),
        ({"x-guidance": {"lenient": True}}, "x-guidance"),
        ({"properties": {"a": {"$ref": "#"}}, "required": ["a"]}, r"required and \$ref"),
        (
            {
                "properties": {"a": {"anyOf": [{"$ref": "#/$defs/d"}, {"$ref": "#/$defs/d"}]}},
                "required": ["a"],
                "$defs": {"d": {"type": "array", "minItems": 1, "items": {"$ref": "#/$defs/d"}}},
            },
            r"required and \$ref",
        ),
    ],
)
def test_what_no_arguments_can_be_is_refused(schema: dict[str, Any], named: str) -> None:
    """Arguments are an object, and checks cannot be switched off."""
    with pytest.raises(UnwritableFunctionError, match=named):
        arguments_schema(schema, BOUNDS)


@pytest.mark.parametrize(
    ("schema", "added"),
    [
        ({"type": "string"}, {"maxLength": 500}),
        ({"type": ["string", "null"], "pattern": "^a*$"}, {"maxLength": 500}),
        ({"type": "string", "minLength": 900}, {"maxLength": 900}),
        ({"type": "string", "maxLength": 7000}, {}),
        ({"type": "string", "format": "email"}, {"maxLength": 254}),
        ({"type": "string", "enum": ["a"]}, {}),
        ({"type": "array"}, {"maxItems": 20}),
        ({"type": "array", "minItems": 30}, {"maxItems": 30}),
        ({"type": "array", "maxItems": 50}, {}),
        ({"type": "integer"}, {}),
    ],
)
def test_what_has_no_end_gets_one(schema: dict[str, Any], added: dict[str, int]) -> None:
    """Strings and arrays, wherever they stand, unless the schema says it or lists the values."""
    within = {"allOf": [{"properties": {"a": {"anyOf": [schema]}}}]}
    bounded = arguments_schema(within, BOUNDS)

    assert bounded["allOf"][0]["properties"]["a"]["anyOf"] == [{**schema, **added}]


def test_bounds_grow_with_the_context() -> None:
    """A model that can write long texts may, and nothing cuts them short."""
    assert Bounds.for_context(8192) == Bounds(characters=2048, items=128)
    assert Bounds.for_context(16_384) == Bounds(characters=4096, items=256)
    assert Bounds.for_context(131_072) == Bounds()


def test_nothing_is_bounded_where_nothing_says_so() -> None:
    """Without bounds a schema of strings and arrays stays as it is."""
    schema = {"type": "object", "properties": {"a": {"type": "array"}, "b": {"type": "string"}}}

    assert arguments_schema(schema, Bounds())["properties"] == schema["properties"]


def test_recursion_that_may_end_is_taken() -> None:
    """A list that ends with null, a tree whose leaves have no children."""
    node = {"properties": {"next": {"anyOf": [{"$ref": "#"}, {"type": "null"}]}}}
    tree = {"properties": {"children": {"type": "array", "items": {"$ref": "#"}}}}

    for schema in (node, tree):
        assert arguments_schema({**schema, "required": list(schema["properties"])}, BOUNDS)

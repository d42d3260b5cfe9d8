"""OpenAI's rules for strict schemas, in its words."""

import time
from typing import Any

import pytest

from edge.openai.strict_schema import strict_schema_problem

STRING = {"type": "string"}


def closed(**properties: Any) -> dict[str, Any]:
    """An object as the rules want it."""
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def _nested(levels: int) -> dict[str, Any]:
    schema = closed(a=STRING)
    for _ in range(levels - 2):
        schema = closed(a=schema)
    return schema


ADDITIONAL = "'additionalProperties' is required to be supplied and to be false."
REQUIRED = (
    "'required' is required to be supplied and to be an array including every key in properties."
)
TOP = (
    "schema must have type 'object' and not have 'oneOf'/'anyOf'/'allOf'/'enum'/'not' at the top "
    "level."
)


@pytest.mark.parametrize(
    "schema",
    [
        closed(),
        closed(a=STRING, b={"type": ["string", "null"]}, c={"enum": [1, 2]}, d={"const": 3}),
        closed(a={"type": "array", "items": closed(b={"anyOf": [closed(c=STRING), STRING]})}),
        {**closed(a={"$ref": "#/$defs/a"}), "$defs": {"a": closed(next={"$ref": "#/$defs/a"})}},
        closed(a=closed() | {"type": ["object", "null"]}),
        _nested(10),
    ],
    ids=str,
)
def test_kept(schema: dict[str, Any]) -> None:
    """A schema that keeps all the rules has no problem."""
    assert strict_schema_problem(schema) is None


@pytest.mark.parametrize(
    ("schema", "problem"),
    [
        ({}, """schema must be a JSON Schema of 'type: "object"', got 'type: "None"'."""),
        (
            {"type": "array", "items": STRING},
            """schema must be a JSON Schema of 'type: "object"', got 'type: "array"'.""",
        ),
        ({"anyOf": [closed()]}, TOP),
        ({**closed(), "oneOf": [closed()]}, TOP),
        ({"type": "object"}, f"In context=(), {ADDITIONAL}"),
        ({**closed(), "additionalProperties": True}, f"In context=(), {ADDITIONAL}"),
        ({**closed(a=STRING), "required": []}, f"In context=(), {REQUIRED} Missing 'a'."),
        ({**closed(a=STRING), "required": None}, f"In context=(), {REQUIRED} Missing 'a'."),
        (
            {**closed(), "required": ["x"]},
            f"In context=(), {REQUIRED} Extra required key 'x' supplied.",
        ),
        (
            closed(a={"type": "object", "properties": {}}),
            f"In context=('properties', 'a'), {ADDITIONAL}",
        ),
        (
            closed(a={"type": "array", "items": {"type": "object"}}),
            f"In context=('properties', 'a', 'items'), {ADDITIONAL}",
        ),
        (
            closed(a={"anyOf": [STRING, {"type": "object"}]}),
            f"In context=('properties', 'a', 'anyOf', '1'), {ADDITIONAL}",
        ),
        (
            closed(a={"type": ["null", "object"]}),
            f"In context=('properties', 'a', 'type', '1'), {ADDITIONAL}",
        ),
        (
            {**closed(), "$defs": {"x": {"type": "object"}}},
            f"In context=('$defs', 'x'), {ADDITIONAL}",
        ),
        (closed(a={}), "In context=('properties', 'a'), schema must have a 'type' key."),
        (closed(a=1), "In context=('properties', 'a'), schema must be an object."),
        (
            closed(a={"type": "string", "oneOf": [STRING]}),
            "In context=('properties', 'a'), 'oneOf' is not permitted.",
        ),
        (
            closed(a={"type": "array"}),
            "In context=('properties', 'a'), array schema missing items.",
        ),
        ({**closed(), "properties": []}, "In context=(), 'properties' must be an object."),
        (_nested(11), "11 levels of nesting exceeds limit of 10."),
        (
            closed(**{f"p{n}": STRING for n in range(5001)}),
            "5001 object properties exceeds limit of 5000.",
        ),
        (closed(a={"enum": [*range(1001)]}), "1001 enum values exceeds limit of 1000."),
        (
            closed(a={"enum": ["x" * 120_000]}),
            "120001 characters of names, enum and const values exceeds limit of 120000.",
        ),
    ],
    ids=[*range(23)],
)
def test_broken(schema: dict[str, Any], problem: str) -> None:
    """Each rule that is broken is told with the place."""
    assert strict_schema_problem(schema) == problem


def test_cost_grows_with_the_size_alone() -> None:
    """A schema as large as a request may have is checked in a moment: it is read once."""
    schema = closed(**{f"p{n}": STRING for n in range(20_000)})

    before = time.process_time()
    problem = strict_schema_problem(schema)

    assert problem == "20000 object properties exceeds limit of 5000."
    assert time.process_time() - before < 2


def test_long_names_are_cut() -> None:
    """A message does not send a client's long name back whole."""
    problem = strict_schema_problem({**closed(), "required": ["n" * 5000]})

    assert problem is not None
    assert len(problem) < 250

"""Random JSON schemas, small enough to be answered, some with keywords that few can express."""

import random
from collections.abc import Callable
from typing import Any

_WORDS = ("name", "age", "tags", "city", "ok", "x y", 'q"uote', "ünï", "$id2", "n")
_PATTERNS = ("^[a-z]{1,8}$", "^\\d{2}-\\d{2}$", "^(foo|bar)+$", "[A-Z][a-z]+")
_FORMATS = ("date", "time", "date-time", "uuid", "ipv4", "email")
_RARE = (
    {"type": "array", "uniqueItems": True},
    {"type": "array", "contains": {"type": "integer"}},
    {"not": {"type": "string"}},
    {"type": "object", "propertyNames": {"maxLength": 3}},
    {"if": {"type": "string"}, "then": {"minLength": 2}},
    {"oneOf": [{"type": "number"}, {"type": "integer"}]},
    {"type": "object", "dependentRequired": {"a": ["b"]}},
)

Schema = dict[str, Any]


def random_schema(chance: random.Random, depth: int = 3) -> Schema:
    """A schema of at most so many levels; about one in thirty holds a rare keyword."""
    if chance.random() < 0.01:
        return chance.choice(_RARE)
    makers: list[Callable[[random.Random, int], Schema]] = [_string, _number, _plain, _enum]
    if depth:
        makers += [_object, _object, _object, _array, _array, _any_of]
    schema = chance.choice(makers)(chance, depth - 1)
    if chance.random() < 0.1:
        schema = {"title": chance.choice(_WORDS), "description": "…", **schema}
    return schema


def _plain(chance: random.Random, _depth: int) -> Schema:
    return chance.choice([{"type": "boolean"}, {"type": "null"}, {"type": ["boolean", "null"]}])


def _enum(chance: random.Random, _depth: int) -> Schema:
    values = [*_WORDS, 0, -1.5, None, True, [1, "a"], {"a": {}}]
    chosen = chance.sample(values, chance.randrange(1, 4))
    return {"const": chosen[0]} if chance.random() < 0.3 else {"enum": chosen}


def _string(chance: random.Random, _depth: int) -> Schema:
    shape = chance.randrange(3)
    if shape == 0:
        return {"type": "string", "pattern": chance.choice(_PATTERNS), "maxLength": 12}
    if shape == 1:
        return {"type": "string", "format": chance.choice(_FORMATS)}
    least = chance.randrange(4)
    return {"type": "string", "minLength": least, "maxLength": least + chance.randrange(12)}


def _number(chance: random.Random, _depth: int) -> Schema:
    kind = chance.choice(["integer", "number"])
    least = chance.randrange(-1000, 1000)
    schema: Schema = {"type": kind, "minimum": least, "maximum": least + chance.randrange(1, 5000)}
    if kind == "integer" and chance.random() < 0.2:
        return {"type": kind, "multipleOf": chance.choice([2, 5]), "minimum": 0, "maximum": 100}
    if chance.random() < 0.3:
        schema["exclusiveMinimum"] = schema.pop("minimum")
    return schema


def _object(chance: random.Random, depth: int) -> Schema:
    names = chance.sample(_WORDS, chance.randrange(4))
    schema: Schema = {
        "type": "object",
        "properties": {name: random_schema(chance, depth) for name in names},
        "required": [name for name in names if chance.random() < 0.6],
        "additionalProperties": False,
    }
    if chance.random() < 0.2:
        schema["additionalProperties"] = random_schema(chance, 0)
    if chance.random() < 0.1:
        schema["patternProperties"] = {"^z_": random_schema(chance, 0)}
    return schema


def _array(chance: random.Random, depth: int) -> Schema:
    least = chance.randrange(3)
    schema: Schema = {"type": "array", "minItems": least, "maxItems": least + chance.randrange(3)}
    if chance.random() < 0.3:
        schema["prefixItems"] = [random_schema(chance, depth) for _ in range(2)]
    return {**schema, "items": random_schema(chance, depth)}


def _any_of(chance: random.Random, depth: int) -> Schema:
    return {"anyOf": [random_schema(chance, depth) for _ in range(2)]}


def recursive_schema(chance: random.Random) -> Schema:
    """A list whose elements may nest without bound."""
    node: Schema = {
        "type": "object",
        "properties": {"value": random_schema(chance, 0), "next": {"$ref": "#/$defs/node"}},
        "required": ["value"],
        "additionalProperties": False,
    }
    return {"$defs": {"node": node}, "$ref": "#/$defs/node"}

"""Schemas of arguments as guides follow them: closed and bounded where they leave it open.

A schema that names members and says nothing of others allows any others, in any number; a model
that is free to add some may go on doing so, as it may in a string or an array without an end. What
is written here accepts a part of what the client's schema accepts.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Self

from tokenizer_svc.formats.call_grammar import UnwritableFunctionError
from tokenizer_svc.guides.endless import is_endless
from tokenizer_svc.guides.grammar import OPTIONS

ANY_OBJECT: Mapping[str, Any] = {"type": "object"}
NO_ARGUMENTS: Mapping[str, Any] = {
    "type": "object",
    "properties": {},
    "additionalProperties": False,
}

_HAS_VALUES = frozenset({"enum", "const"})
_LONGEST = {"email": 254, "idn-email": 254, "hostname": 253, "idn-hostname": 253}
_LARGE_CONTEXT = 16_384  # tokens
_MAPS = ("properties", "patternProperties", "$defs", "definitions")
_LISTS = ("anyOf", "oneOf", "allOf", "prefixItems")
_SINGLE = ("items", "additionalProperties")
_IN_PLACE = frozenset({"anyOf", "oneOf", "allOf", "$ref"})
# What says more of an object's members, so that closing it could contradict.
_SAYS_MORE = _IN_PLACE | {
    "additionalProperties",
    "patternProperties",
    "unevaluatedProperties",
    "minProperties",
}


@dataclass(frozen=True, slots=True)
class Bounds:
    """How long strings and arrays may be of which the schema does not say it; None = any length."""

    characters: int | None = None
    items: int | None = None

    @classmethod
    def for_context(cls, tokens: int) -> Self:
        """Those of a model with so long a context, of which a string then takes a sixteenth or so.

        An end for small models that lose their way. Larger ones have reason to write long texts,
        and one that a bound cuts short looks as if it were whole: they have none.
        """
        if tokens > _LARGE_CONTEXT:
            return cls()
        return cls(max(tokens // 4, 256), max(tokens // 64, 16))


def arguments_schema(parameters: Mapping[str, Any] | None, bounds: Bounds) -> Mapping[str, Any]:
    """The schema that a function's arguments follow. Raises UnwritableFunctionError."""
    if parameters is None:
        return NO_ARGUMENTS
    if OPTIONS in parameters:
        raise UnwritableFunctionError(f"the keyword {OPTIONS} is not allowed")
    types = parameters.get("type", "object")
    if types != "object" and not (isinstance(types, list) and "object" in types):
        raise UnwritableFunctionError("type must be object, as arguments are")
    if is_endless({**parameters, "type": "object"}):
        raise UnwritableFunctionError("required and $ref together leave no value that ends")
    schema: Mapping[str, Any] = _bounded({**parameters, "type": "object"}, bounds)
    return schema if _has_compositions(schema) else dict(_closed(schema))


def _has_compositions(schema: Mapping[str, Any]) -> bool:
    """Whether several schemas may speak of the members of one object."""
    return any(
        "allOf" in each or ("properties" in each and _IN_PLACE & each.keys())
        for each in _subschemas(schema)
    )


def _subschemas(schema: Any) -> Iterator[Mapping[str, Any]]:
    if isinstance(schema, Mapping):
        yield schema
        for inner in _inner(schema):
            yield from _subschemas(inner)


def _inner(schema: Mapping[str, Any]) -> Iterator[Any]:
    for keyword in _MAPS:
        inner = schema.get(keyword)
        yield from inner.values() if isinstance(inner, Mapping) else ()
    for keyword in _LISTS:
        inner = schema.get(keyword)
        yield from inner if isinstance(inner, list) else ()
    yield from (schema[keyword] for keyword in _SINGLE if keyword in schema)


def _closed(schema: Any) -> Any:
    if not isinstance(schema, Mapping):
        return schema
    closed = _mapped(schema, _closed)
    properties = schema.get("properties")
    required = schema.get("required", [])
    if (
        isinstance(properties, Mapping)
        and properties
        and not _SAYS_MORE & schema.keys()
        and isinstance(required, list)
        and all(name in properties for name in required)
    ):
        closed["additionalProperties"] = False
    return closed


def _bounded(schema: Any, bounds: Bounds) -> Any:
    if not isinstance(schema, Mapping):
        return schema
    bounded = _mapped(schema, lambda inner: _bounded(inner, bounds))
    types = schema.get("type")
    names = types if isinstance(types, list) else [types]
    if bounds.characters is not None and "string" in names and not _HAS_VALUES & schema.keys():
        most = _LONGEST.get(str(schema.get("format")), bounds.characters)
        _bound(bounded, "maxLength", "minLength", min(most, bounds.characters))
    if bounds.items is not None and "array" in names and not _HAS_VALUES & schema.keys():
        _bound(bounded, "maxItems", "minItems", bounds.items)
    return bounded


def _bound(schema: dict[str, Any], keyword: str, least: str, most: int) -> None:
    at_least = schema.get(least, 0)
    if keyword not in schema and isinstance(at_least, int):
        schema[keyword] = max(most, at_least)


def _mapped(schema: Mapping[str, Any], change: Callable[[Any], Any]) -> dict[str, Any]:
    """The schema with all schemas in it changed; values, such as those of enum, stay."""
    changed = dict(schema)
    for keyword in _MAPS:
        inner = schema.get(keyword)
        if isinstance(inner, Mapping):
            changed[keyword] = {name: change(each) for name, each in inner.items()}
    for keyword in _LISTS:
        inner = schema.get(keyword)
        if isinstance(inner, list):
            changed[keyword] = [change(each) for each in inner]
    for keyword in _SINGLE:
        if keyword in schema:
            changed[keyword] = change(schema[keyword])
    return changed

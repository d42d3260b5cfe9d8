"""Schemas that only endless values satisfy: an object that requires another one of its own kind."""

from collections.abc import Iterator, Mapping
from typing import Any

from tokenizer_svc.formats.parameter_values import referred

# Deeper nesting and larger schemas are taken for satisfiable: generation then fails by itself.
_MOST_DEPTH = 100
_MOST_VISITS = 20_000


def is_endless(schema: Mapping[str, Any]) -> bool:
    """Whether every value that the schema accepts holds another one that it must accept."""
    return _Search(schema).is_endless(schema, frozenset(), 0)


class _Search:
    def __init__(self, whole: Mapping[str, Any]) -> None:
        self._whole = whole
        self._visits = 0

    def is_endless(self, schema: Any, opened: frozenset[str], depth: int) -> bool:
        """The same of a part, within the references that have been `opened`."""
        self._visits += 1
        if not isinstance(schema, Mapping) or depth > _MOST_DEPTH or self._visits > _MOST_VISITS:
            return False
        reference = schema.get("$ref")
        if isinstance(reference, str):
            if reference in opened:
                return True
            target = referred(reference, self._whole)
            if self.is_endless(target, opened | {reference}, depth + 1):
                return True
        for keyword in ("anyOf", "oneOf"):
            parts = schema.get(keyword)
            if not isinstance(parts, list) or not parts:
                continue
            if all(self.is_endless(part, opened, depth + 1) for part in parts):
                return True
        return any(self.is_endless(part, opened, depth + 1) for part in _needed(schema))


def _needed(schema: Mapping[str, Any]) -> Iterator[Any]:
    """Parts that a value of the schema must have."""
    parts = schema.get("allOf")
    yield from parts if isinstance(parts, list) else ()
    if schema.get("type") == "array" and schema.get("minItems"):
        yield schema.get("items")
    properties, required = schema.get("properties"), schema.get("required")
    if schema.get("type") == "object" and isinstance(properties, Mapping):
        for name in required if isinstance(required, list) else ():
            yield properties.get(name)

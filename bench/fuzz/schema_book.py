"""Validation of what was sent and answered against an OpenAPI document's schemas."""

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from jsonschema import Draft202012Validator
from referencing import Registry
from referencing.jsonschema import DRAFT202012

_ROOT = "urn:openapi"


class SchemaBook:
    """The schemas of one document; validators are made once."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        resource = DRAFT202012.create_resource(document)
        self._registry: Registry[Any] = Registry().with_resource(_ROOT, resource)
        self._validators: dict[str, Any] = {}

    def problem(self, name: str, value: Any) -> str | None:
        """What is wrong with a value by the component schema of that name; None = nothing."""
        return self.problem_at(f"/components/schemas/{name}", value)

    def problem_at(self, pointer: str, value: Any) -> str | None:
        """The same by the schema at a JSON pointer."""
        validator = self._validators.get(pointer)
        if validator is None:
            schema = {"$ref": f"{_ROOT}#{quote(pointer)}"}
            validator = Draft202012Validator(schema, registry=self._registry)
            self._validators[pointer] = validator
        error = next(validator.iter_errors(value), None)
        return None if error is None else f"{error.json_path}: {error.message[:300]}"

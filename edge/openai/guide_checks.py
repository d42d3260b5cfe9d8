"""Checks of the fields that say what the content must be, each with its JSON Schema."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from edge.openai import checks, problems

MAX_CHOICES = 1024
FORMAT_KINDS = checks.one_of("text", "json_object", "json_schema")
guided_text = checks.string(least=1)


@dataclass(frozen=True, slots=True)
class ResponseFormat:
    """An object that names its type; what else it must hold depends on the profile. A check."""

    def __call__(self, param: str, value: Any) -> Mapping[str, Any]:
        """The object. Raises ServiceError."""
        given = checks.json_object(param, value)
        if given.get("type") is None:
            raise problems.missing(f"{param}.type")
        FORMAT_KINDS(f"{param}.type", given["type"])
        return given

    def schema(self) -> checks.Schema:
        """The type."""
        properties = {"type": FORMAT_KINDS.schema()}
        return {**checks.json_object.schema(), "properties": properties, "required": ["type"]}


@dataclass(frozen=True, slots=True)
class JsonOrText:
    """An object, or a string that is its JSON, which is read later; a check."""

    def __call__(self, param: str, value: Any) -> Any:
        """The value. Raises ServiceError."""
        if isinstance(value, str):
            return guided_text(param, value)
        if not isinstance(value, dict):
            raise problems.wrong_type(param, "one of a string or object", value)
        return checks.json_object(param, value)

    def schema(self) -> checks.Schema:
        """Either."""
        text = {**guided_text.schema(), "contentMediaType": "application/json"}
        return {"anyOf": [checks.json_object.schema(), text]}


@dataclass(frozen=True, slots=True)
class Choices:
    """At least one string, none of them empty; a check."""

    array: checks.Array

    def __call__(self, param: str, value: Any) -> tuple[str, ...]:
        """The strings. Raises ServiceError."""
        choices = self.array(param, value)
        if not choices:
            raise problems.empty_array(param)
        return choices

    def schema(self) -> checks.Schema:
        """The array."""
        return {**self.array.schema(), "minItems": 1}


@dataclass(frozen=True, slots=True)
class IsTrue:
    """True; a check."""

    def __call__(self, param: str, value: Any) -> bool:
        """The flag. Raises ServiceError."""
        if not checks.boolean(param, value):
            raise problems.refused(f"Invalid '{param}': expected true.", param, "invalid_value")
        return True

    def schema(self) -> checks.Schema:
        """True."""
        return {"const": True}


guided_json = JsonOrText()
guided_choice = Choices(checks.array(guided_text, MAX_CHOICES, of="strings"))
STRUCTURED_KINDS: Mapping[str, checks.Check] = {
    "json": guided_json,
    "json_object": IsTrue(),
    "regex": guided_text,
    "choice": guided_choice,
    "grammar": guided_text,
}


@dataclass(frozen=True, slots=True)
class StructuredOutputs:
    """An object of exactly one of the kinds; what else it may hold is refused by name. A check."""

    def __call__(self, param: str, value: Any) -> dict[str, Any]:
        """The kind and its validated value, nothing else. Raises ServiceError."""
        given = {
            name: entry
            for name, entry in checks.json_object(param, value).items()
            if entry is not None
        }
        for name in given:
            if name not in STRUCTURED_KINDS:
                raise problems.unsupported_parameter(f"{param}.{problems.shown(name)}")
        if len(given) > 1:
            one, other = (f"{param}.{name}" for name in list(given)[:2])
            raise problems.exclusive(one, other)
        if not given:
            listed = ", ".join(f"'{name}'" for name in STRUCTURED_KINDS)
            raise problems.refused(
                f"Missing required parameter: '{param}' must have one of {listed}.",
                param,
                "missing_required_parameter",
            )
        ((name, entry),) = given.items()
        return {name: STRUCTURED_KINDS[name](f"{param}.{name}", entry)}

    def schema(self) -> checks.Schema:
        """One alternative a kind."""
        alternatives = [
            {
                **checks.json_object.schema(),
                "properties": {name: check.schema()},
                "required": [name],
                "additionalProperties": {"type": "null"},
            }
            for name, check in STRUCTURED_KINDS.items()
        ]
        return {"oneOf": alternatives}


response_format = ResponseFormat()
structured_outputs = StructuredOutputs()

"""Checks of the fields that are more than one plain value, each with its JSON Schema."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from edge.openai import checks, problems
from edge.openai.profile import MAX_TOKEN_COUNT

MAX_LOGIT_BIAS_ENTRIES = 300
_MAX_ID_DIGITS = 10
_check_stop = checks.string(least=1)
_check_stops = checks.array(_check_stop, 4, of="strings")
_check_bias = checks.decimal(-100, 100)


@dataclass(frozen=True, slots=True)
class Stop:
    """A string, or an array of at most four; none of them empty. A check."""

    def __call__(self, param: str, value: Any) -> tuple[str, ...]:
        """The strings. Raises ServiceError."""
        if isinstance(value, str):
            return (_check_stop(param, value),)
        if not isinstance(value, list):
            raise problems.wrong_type(param, "one of a string or array of strings", value)
        return _check_stops(param, value)

    def schema(self) -> checks.Schema:
        """One, or several."""
        return {"anyOf": [_check_stop.schema(), _check_stops.schema()]}


@dataclass(frozen=True, slots=True)
class LogitBias:
    """An object whose keys are token ids; a check."""

    def __call__(self, param: str, value: Any) -> tuple[tuple[int, float], ...]:
        """Pairs of token id and bias, without biases of zero. Raises ServiceError."""
        entries = checks.json_object(param, value)
        if len(entries) > MAX_LOGIT_BIAS_ENTRIES:
            raise problems.object_too_large(param, MAX_LOGIT_BIAS_ENTRIES, len(entries))
        biases: list[tuple[int, float]] = []
        for key, entry in entries.items():
            name = f"{param}.{problems.shown(key)}"
            if not (key.isascii() and key.isdigit() and len(key) <= _MAX_ID_DIGITS):
                raise problems.refused(
                    f"Invalid key in '{param}': '{problems.shown(key)}' is not a token id.",
                    param,
                    "invalid_value",
                )
            bias = _check_bias(name, entry)
            if int(key) > MAX_TOKEN_COUNT:
                raise problems.above_maximum(name, "integer", MAX_TOKEN_COUNT, int(key))
            if bias:
                biases.append((int(key), bias))
        return tuple(biases)

    def schema(self) -> checks.Schema:
        """Keys of digits, bounded biases. That an id is at most 4294967295 it cannot say."""
        return {
            "type": "object",
            "maxProperties": MAX_LOGIT_BIAS_ENTRIES,
            "propertyNames": {"pattern": f"^[0-9]{{1,{_MAX_ID_DIGITS}}}$"},
            "additionalProperties": _check_bias.schema(),
        }


@dataclass(frozen=True, slots=True)
class StreamOptions:
    """An object with flags; a check."""

    flags: tuple[str, ...]

    def __call__(self, param: str, value: Any) -> Mapping[str, Any]:
        """The object. Raises ServiceError."""
        options = checks.json_object(param, value)
        for name in self.flags:
            if options.get(name) is not None:
                checks.boolean(f"{param}.{name}", options[name])
        return options

    def schema(self) -> checks.Schema:
        """The flags, each of which may be null."""
        flag = {"type": ["boolean", "null"]}
        return {
            **checks.json_object.schema(),
            "properties": {name: dict(flag) for name in self.flags},
        }


@dataclass(frozen=True, slots=True)
class TypedObject:
    """An object that names its type; gives the type. A check.

    What else it holds belongs to types that are refused.
    """

    kinds: checks.OneOf

    def __call__(self, param: str, value: Any) -> str:
        """The type. Raises ServiceError."""
        kind = checks.json_object(param, value).get("type")
        if kind is None:
            raise problems.missing(f"{param}.type")
        return self.kinds(f"{param}.type", kind)

    def schema(self) -> checks.Schema:
        """The type."""
        return {
            **checks.json_object.schema(),
            "properties": {"type": self.kinds.schema()},
            "required": ["type"],
        }


@dataclass(frozen=True, slots=True)
class Prediction:
    """A predicted text; of its content only that it is there and of a type that may hold text."""

    typed: TypedObject

    def __call__(self, param: str, value: Any) -> Any:
        """The object. Raises ServiceError."""
        self.typed(param, value)
        content = value.get("content")
        if content is None:
            raise problems.missing(f"{param}.content")
        if not isinstance(content, str | list):
            raise problems.wrong_type(
                f"{param}.content", "one of a string or array of objects", content
            )
        return value

    def schema(self) -> checks.Schema:
        """Type and content."""
        schema = self.typed.schema()
        schema["properties"]["content"] = {"type": ["string", "array"]}
        schema["required"].append("content")
        return schema


stop = Stop()
logit_bias = LogitBias()
stream_options = StreamOptions(("include_usage", "include_obfuscation"))
prediction = Prediction(TypedObject(checks.one_of("content")))
modalities = checks.array(checks.one_of("text", "audio"), 2, of="strings")

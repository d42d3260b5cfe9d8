"""Checks of single JSON values, each of which can say in JSON Schema what it takes.

A check returns the value in its validated form or raises ServiceError. Values come from a JSON
parser that knows no NaN and no infinity; booleans are no integers.
"""

import re
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, Protocol, TypeAlias

from edge.openai import problems

Schema: TypeAlias = dict[str, Any]
"""JSON Schema in the dialect of OpenAPI 3.1, 2020-12."""


class Check(Protocol):
    """A check of one value that is not null."""

    def __call__(self, param: str, value: Any, /) -> Any:
        """The value in its validated form. Raises ServiceError."""

    def schema(self) -> Schema:
        """What passes; a new document at each call."""


# Whole numbers outside 64 bits come from the parser as floats.
_WIDEST_INTEGER = 2.0**63
MAX_PROPERTIES = 1024


@dataclass(frozen=True, slots=True)
class NumberRange:
    """Numbers from `least` to `most`, with `above_least` not `least` itself; a check.

    `kind` is "integer" or "decimal"; an integer is given back as int, a decimal as float.
    """

    kind: Literal["integer", "decimal"]
    least: float
    most: float
    above_least: bool = False

    def __call__(self, param: str, value: Any) -> Any:
        """The number. Raises ServiceError for another type, and outside the range."""
        number = self._number(param, value)
        if number > self.most:
            raise problems.above_maximum(param, self.kind, self.most, number)
        if number < self.least or (self.above_least and number == self.least):
            raise problems.below_minimum(
                param, self.kind, self.least, number, is_open=self.above_least
            )
        return number

    def nearest(self, param: str, value: Any) -> Any:
        """The number of the range that is nearest; raises ServiceError where there is none."""
        number = self._number(param, value)
        if number > self.most:
            return type(number)(self.most)
        if number < self.least and not self.above_least:
            return type(number)(self.least)
        return self(param, number)

    def schema(self) -> Schema:
        """The range. What JSON Schema calls an integer may be spelt `1.0`; that is refused."""
        least = "exclusiveMinimum" if self.above_least else "minimum"
        return {**self._type(), least: self.least, "maximum": self.most}

    def nearest_schema(self) -> Schema:
        """What `nearest` takes."""
        return {**self._type(), **({"exclusiveMinimum": self.least} if self.above_least else {})}

    def _type(self) -> Schema:
        return {"type": "integer" if self.kind == "integer" else "number"}

    def _number(self, param: str, value: Any) -> Any:
        if self.kind == "decimal":
            if type(value) not in (int, float):
                raise problems.wrong_type(param, "a decimal", value)
            return float(value)
        number = value
        if type(value) is float and abs(value) >= _WIDEST_INTEGER:
            # Rounded to the least one of 64 bits it was below: that one itself is no float.
            number = int(value) - (value == -_WIDEST_INTEGER)
        if type(number) is not int:
            raise problems.wrong_type(param, "an integer", value)
        return number


def integer(least: int, most: int) -> NumberRange:
    """An integer from `least` to `most`."""
    return NumberRange("integer", least, most)


def decimal(least: float, most: float, *, above_least: bool = False) -> NumberRange:
    """A number from `least` to `most`; with `above_least` not `least` itself."""
    return NumberRange("decimal", least, most, above_least)


@dataclass(frozen=True, slots=True)
class Boolean:
    """True or false; a check."""

    def __call__(self, param: str, value: Any) -> bool:
        """The flag. Raises ServiceError."""
        if type(value) is not bool:
            raise problems.wrong_type(param, "a boolean", value)
        return value

    def schema(self) -> Schema:
        """Any boolean."""
        return {"type": "boolean"}


@dataclass(frozen=True)
class String:
    """A string of `least` to `most` characters, as a whole of `pattern`; a check."""

    most: int | None = None
    least: int = 0
    pattern: str | None = None

    @cached_property
    def _matches(self) -> re.Pattern[str] | None:
        return None if self.pattern is None else re.compile(self.pattern)

    def __call__(self, param: str, value: Any) -> str:
        """The string. Raises ServiceError."""
        if not isinstance(value, str):
            raise problems.wrong_type(param, "a string", value)
        if len(value) < self.least:
            raise problems.empty_string(param)
        if self.most is not None and len(value) > self.most:
            raise problems.string_too_long(param, self.most, len(value))
        if self._matches is not None and self._matches.fullmatch(value) is None:
            raise problems.pattern_mismatch(param, f"^{self.pattern}$")
        return value

    def schema(self) -> Schema:
        """Length and pattern."""
        schema: Schema = {"type": "string"}
        if self.least:
            schema["minLength"] = self.least
        if self.most is not None:
            schema["maxLength"] = self.most
        if self.pattern is not None:
            schema["pattern"] = f"^{self.pattern}$"
        return schema


def string(most: int | None = None, *, least: int = 0, pattern: str | None = None) -> String:
    """A string; lengths in characters."""
    return String(most, least, pattern)


@dataclass(frozen=True, slots=True)
class OneOf:
    """One of a closed set of strings; a check."""

    supported: tuple[str, ...]

    def __call__(self, param: str, value: Any) -> str:
        """The string. Raises ServiceError."""
        if not isinstance(value, str):
            raise problems.wrong_type(param, "a string", value)
        if value not in self.supported:
            raise problems.unknown_value(param, value, self.supported)
        return value

    def schema(self) -> Schema:
        """The set."""
        return {"type": "string", "enum": list(self.supported)}


def one_of(*supported: str) -> OneOf:
    """One of a closed set of strings."""
    return OneOf(supported)


@dataclass(frozen=True, slots=True)
class Array:
    """An array of at most `most` items, each checked; `of` names them. A check."""

    item: Check
    most: int
    of: str

    def __call__(self, param: str, value: Any) -> tuple[Any, ...]:
        """The items as a tuple. Raises ServiceError."""
        if not isinstance(value, list):
            raise problems.wrong_type(param, f"an array of {self.of}", value)
        if len(value) > self.most:
            raise problems.array_too_long(param, self.most, len(value))
        return tuple(self.item(f"{param}[{index}]", entry) for index, entry in enumerate(value))

    def schema(self) -> Schema:
        """Length and items."""
        return {"type": "array", "items": self.item.schema(), "maxItems": self.most}


def array(item: Check, most: int, *, of: str) -> Array:
    """An array of at most `most` items, each checked; gives a tuple. `of` names the items."""
    return Array(item, most, of)


@dataclass(frozen=True, slots=True)
class JsonObject:
    """An object, whatever it holds, of no more properties than anybody has a use for; a check."""

    def __call__(self, param: str, value: Any) -> dict[str, Any]:
        """The object. Raises ServiceError."""
        if not isinstance(value, dict):
            raise problems.wrong_type(param, "an object", value)
        if len(value) > MAX_PROPERTIES:
            raise problems.object_too_large(param, MAX_PROPERTIES, len(value))
        return value

    def schema(self) -> Schema:
        """Any object of so many properties."""
        return {"type": "object", "maxProperties": MAX_PROPERTIES}


@dataclass(frozen=True, slots=True)
class Anything:
    """Any value: the field is refused, left alone, or checked elsewhere; a check."""

    def __call__(self, _param: str, value: Any) -> Any:
        """The value."""
        return value

    def schema(self) -> Schema:
        """Nothing is said of it."""
        return {}


@dataclass(frozen=True, slots=True)
class StringMap:
    """An object of at most `most` strings, with keys and values of bounded length; a check."""

    most: int
    key_length: int
    value_length: int

    def __call__(self, param: str, value: Any) -> dict[str, str]:
        """The object. Raises ServiceError."""
        entries = json_object(param, value)
        if len(entries) > self.most:
            raise problems.object_too_large(param, self.most, len(entries))
        check_value = string(self.value_length)
        for key, entry in entries.items():
            if len(key) > self.key_length:
                raise problems.string_too_long(param, self.key_length, len(key))
            check_value(f"{param}.{problems.shown(key)}", entry)
        return entries

    def schema(self) -> Schema:
        """Sizes of the object, its keys and its values."""
        return {
            "type": "object",
            "maxProperties": self.most,
            "propertyNames": {"maxLength": self.key_length},
            "additionalProperties": string(self.value_length).schema(),
        }


def string_map(most: int, key_length: int, value_length: int) -> StringMap:
    """An object of at most `most` strings, with keys and values of bounded length."""
    return StringMap(most, key_length, value_length)


boolean = Boolean()
json_object = JsonObject()
anything = Anything()

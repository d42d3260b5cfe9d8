"""Checks of single JSON values: each maker gives a function of (param, value).

A check returns the value in its validated form or raises ServiceError. Values come from a JSON
parser that knows no NaN and no infinity; booleans are no integers.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from edge.openai import problems

Check: TypeAlias = Callable[[str, Any], Any]

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
            raise problems.below_minimum(param, self.kind, self.least, number)
        return number

    def nearest(self, param: str, value: Any) -> Any:
        """The number of the range that is nearest; raises ServiceError where there is none."""
        number = self._number(param, value)
        if number > self.most:
            return type(number)(self.most)
        if number < self.least and not self.above_least:
            return type(number)(self.least)
        return self(param, number)

    def _number(self, param: str, value: Any) -> Any:
        if self.kind == "decimal":
            if type(value) not in (int, float):
                raise problems.wrong_type(param, "a decimal", value)
            return float(value)
        number = value
        if type(value) is float and abs(value) >= _WIDEST_INTEGER:
            number = int(value)
        if type(number) is not int:
            raise problems.wrong_type(param, "an integer", value)
        return number


def integer(least: int, most: int) -> NumberRange:
    """An integer from `least` to `most`."""
    return NumberRange("integer", least, most)


def decimal(least: float, most: float, *, above_least: bool = False) -> NumberRange:
    """A number from `least` to `most`; with `above_least` not `least` itself."""
    return NumberRange("decimal", least, most, above_least)


def boolean(param: str, value: Any) -> bool:
    """True or false."""
    if type(value) is not bool:
        raise problems.wrong_type(param, "a boolean", value)
    return value


def string(most: int | None = None, *, least: int = 0, pattern: str | None = None) -> Check:
    """A string; lengths in characters."""
    matches = re.compile(pattern).fullmatch if pattern is not None else None

    def check(param: str, value: Any) -> str:
        if not isinstance(value, str):
            raise problems.wrong_type(param, "a string", value)
        if len(value) < least:
            raise problems.empty_string(param)
        if most is not None and len(value) > most:
            raise problems.string_too_long(param, most, len(value))
        if matches is not None and pattern is not None and matches(value) is None:
            raise problems.pattern_mismatch(param, f"^{pattern}$")
        return value

    return check


def one_of(*supported: str) -> Check:
    """One of a closed set of strings."""

    def check(param: str, value: Any) -> str:
        if not isinstance(value, str):
            raise problems.wrong_type(param, "a string", value)
        if value not in supported:
            raise problems.unknown_value(param, value, supported)
        return value

    return check


def array(item: Check, most: int, *, of: str) -> Check:
    """An array of at most `most` items, each checked; gives a tuple. `of` names the items."""

    def check(param: str, value: Any) -> tuple[Any, ...]:
        if not isinstance(value, list):
            raise problems.wrong_type(param, f"an array of {of}", value)
        if len(value) > most:
            raise problems.array_too_long(param, most, len(value))
        return tuple(item(f"{param}[{index}]", entry) for index, entry in enumerate(value))

    return check


def json_object(param: str, value: Any) -> dict[str, Any]:
    """An object, whatever it holds, of no more properties than anybody has a use for."""
    if not isinstance(value, dict):
        raise problems.wrong_type(param, "an object", value)
    if len(value) > MAX_PROPERTIES:
        raise problems.object_too_large(param, MAX_PROPERTIES, len(value))
    return value


def anything(_param: str, value: Any) -> Any:
    """Any value: the field is refused or left alone without a look inside."""
    return value


def string_map(most: int, key_length: int, value_length: int) -> Check:
    """An object of at most `most` strings, with keys and values of bounded length."""
    check_value = string(value_length)

    def check(param: str, value: Any) -> dict[str, str]:
        entries = json_object(param, value)
        if len(entries) > most:
            raise problems.object_too_large(param, most, len(entries))
        for key, entry in entries.items():
            if len(key) > key_length:
                raise problems.string_too_long(param, key_length, len(key))
            check_value(f"{param}.{problems.shown(key)}", entry)
        return entries

    return check

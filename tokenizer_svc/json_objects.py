"""JSON in what clients write: parsed only where nothing of it is lost; its texts."""

import json
import re
from collections.abc import Callable, Iterable
from typing import Any, NoReturn

_MAX_DEPTH = 64
# Parsing keeps the interpreter's lock: so many take some milliseconds.
_MAX_MARKS = 50_000
_BRACKETS = re.compile(r"[\[\]{}]")


def parsed_object(text: str) -> dict[str, Any]:
    """The object that the text is.

    Raises ValueError, saying why, for a text that is none, repeats a key, holds what is no JSON or
    no Unicode, numbers beyond a float, nests deeper than 64, or has more than 50,000 brackets,
    colons and commas.
    """
    # Cheap bounds, before anything recurses or holds others up.
    brackets = text.count("[") + text.count("{")
    if brackets + text.count(":") + text.count(",") > _MAX_MARKS:
        _refuse(f"it has more than {_MAX_MARKS} brackets, colons and commas")
    if brackets > _MAX_DEPTH and _depth(text) > _MAX_DEPTH:
        _refuse(f"it nests deeper than {_MAX_DEPTH}")
    value = json.loads(
        text,
        object_pairs_hook=_unique_keys,
        parse_constant=_refuse_constant,
        parse_float=_finite,
    )
    if "\\u" in text:  # only escapes can spell what is no character
        json.dumps(value, ensure_ascii=False).encode()
    if not isinstance(value, dict):
        _refuse("it is no object")
    return value


def gather_texts(values: Iterable[Any], texts: list[str]) -> None:
    """Add the texts in JSON values, keys included, to `texts`."""
    for value in values:
        if isinstance(value, str):
            texts.append(value)
        elif isinstance(value, dict):
            texts.extend(value)
            gather_texts(value.values(), texts)
        elif isinstance(value, list):
            gather_texts(value, texts)


def with_changed_texts(value: Any, change: Callable[[str], str]) -> Any:
    """The JSON value with every text in it changed, keys included."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, dict):
        return {change(key): with_changed_texts(entry, change) for key, entry in value.items()}
    if isinstance(value, list):
        return [with_changed_texts(entry, change) for entry in value]
    return value


def _depth(text: str) -> int:
    """How deep brackets nest, those inside strings included: at least as deep as the value."""
    depth = deepest = 0
    for bracket in _BRACKETS.findall(text):
        depth += 1 if bracket in "[{" else -1
        deepest = max(deepest, depth)
    return deepest


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        _refuse("a key comes twice")
    return value


def _refuse_constant(name: str) -> NoReturn:
    _refuse(f"{name} is no JSON")


def _finite(digits: str) -> float:
    number = float(digits)
    if number in (float("inf"), float("-inf")):
        _refuse("a number is too large")
    return number


def _refuse(reason: str) -> NoReturn:
    raise ValueError(reason)

"""Checks of the fields that are more than one plain value."""

from collections.abc import Mapping
from typing import Any

from edge.openai import checks, problems
from edge.openai.profile import MAX_TOKEN_COUNT

MAX_LOGIT_BIAS_ENTRIES = 300
_check_stop = checks.string(least=1)
_check_stops = checks.array(_check_stop, 4, of="strings")
_check_bias = checks.decimal(-100, 100)
_check_format = checks.one_of("text", "json_object", "json_schema")
_check_prediction = checks.one_of("content")
_check_modalities = checks.array(checks.one_of("text", "audio"), 2, of="strings")


def stop(param: str, value: Any) -> tuple[str, ...]:
    """A string, or an array of at most four; none of them empty."""
    if isinstance(value, str):
        return (_check_stop(param, value),)
    if not isinstance(value, list):
        raise problems.wrong_type(param, "one of a string or array of strings", value)
    strings: tuple[str, ...] = _check_stops(param, value)
    return strings


def logit_bias(param: str, value: Any) -> tuple[tuple[int, float], ...]:
    """Pairs of token id and bias, from an object whose keys are ids; without biases of zero."""
    entries = checks.json_object(param, value)
    if len(entries) > MAX_LOGIT_BIAS_ENTRIES:
        raise problems.object_too_large(param, MAX_LOGIT_BIAS_ENTRIES, len(entries))
    biases: list[tuple[int, float]] = []
    for key, entry in entries.items():
        name = f"{param}.{problems.shown(key)}"
        if not (key.isascii() and key.isdigit() and len(key) <= 10):
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


def stream_options(param: str, value: Any) -> Mapping[str, Any]:
    """An object with flags."""
    options = checks.json_object(param, value)
    for name in ("include_usage", "include_obfuscation"):
        if options.get(name) is not None:
            checks.boolean(f"{param}.{name}", options[name])
    return options


def response_format(param: str, value: Any) -> str:
    """The format's type; what else it holds belongs to types that are refused."""
    return _typed(param, value, _check_format)


def prediction(param: str, value: Any) -> Any:
    """A predicted text; of its content only that it is there and of a type that may hold text."""
    _typed(param, value, _check_prediction)
    content = value.get("content")
    if content is None:
        raise problems.missing(f"{param}.content")
    if not isinstance(content, str | list):
        raise problems.wrong_type(
            f"{param}.content", "one of a string or array of objects", content
        )
    return value


def modalities(param: str, value: Any) -> tuple[Any, ...]:
    """Kinds of output."""
    kinds: tuple[Any, ...] = _check_modalities(param, value)
    return kinds


def _typed(param: str, value: Any, check: checks.Check) -> str:
    kind = checks.json_object(param, value).get("type")
    if kind is None:
        raise problems.missing(f"{param}.type")
    checked: str = check(f"{param}.type", kind)
    return checked

"""The refusals of a request, in OpenAI's wording: one function a kind, each giving a ServiceError.

Every message names the parameter, the bound and the value; `param` and `code` are OpenAI's.
"""

from typing import Any

from headrace.common.v1 import errors_pb2
from headrace.rpc.errors import ServiceError

_INVALID = errors_pb2.ERROR_REASON_INVALID_REQUEST
_SHOWN_CHARACTERS = 64
INVALID_PARAMETERS_CODE = "invalid_function_parameters"


def refused(message: str, param: str | None, code: str | None = None) -> ServiceError:
    """An invalid request with a message of its own."""
    return ServiceError(_INVALID, message, param, openai_code=code)


def missing(param: str) -> ServiceError:
    """A required field is absent or null."""
    return refused(f"Missing required parameter: '{param}'.", param, "missing_required_parameter")


def wrong_type(param: str, expected: str, value: Any) -> ServiceError:
    """A value of another JSON type than `expected`, such as "an integer"."""
    return refused(
        f"Invalid type for '{param}': expected {expected}, but got {_type_name(value)} instead.",
        param,
        "invalid_type",
    )


def above_maximum(param: str, kind: str, most: float, value: float) -> ServiceError:
    """A number that is too large; `kind` is "integer" or "decimal"."""
    return refused(
        f"Invalid '{param}': {kind} above maximum value. "
        f"Expected a value <= {number_text(most)}, but got {number_text(value)} instead.",
        param,
        f"{kind}_above_max_value",
    )


def too_many_outputs(most: int, n: int, reason: str) -> ServiceError:
    """More outputs than a request may have; `reason` says what makes each so large, or nothing."""
    text = f"Expected a value <= {most}, but got {n} instead."
    if reason:
        text = f"Expected a value <= {most} for outputs{reason}, but got {n} instead."
    return refused(
        f"Invalid 'n': integer above maximum value. {text}", "n", "integer_above_max_value"
    )


def below_minimum(
    param: str, kind: str, least: float, value: float, *, is_open: bool = False
) -> ServiceError:
    """A number that is too small; `kind` is "integer" or "decimal", `is_open` excludes `least`."""
    bound = f"{'>' if is_open else '>='} {number_text(least)}"
    return refused(
        f"Invalid '{param}': {kind} below minimum value. "
        f"Expected a value {bound}, but got {number_text(value)} instead.",
        param,
        f"{kind}_below_min_value",
    )


def array_too_long(param: str, most: int, length: int) -> ServiceError:
    """An array with more than `most` items."""
    return refused(
        f"Invalid '{param}': array too long. Expected an array with maximum length {most}, "
        f"but got an array with length {length} instead.",
        param,
        "array_above_max_length",
    )


def empty_array(param: str) -> ServiceError:
    """An array without items where one is needed."""
    return refused(
        f"Invalid '{param}': empty array. Expected an array with minimum length 1, "
        "but got an empty array instead.",
        param,
        "empty_array",
    )


def object_too_large(param: str, most: int, count: int) -> ServiceError:
    """An object with more than `most` properties."""
    return refused(
        f"Invalid '{param}': too many properties. Expected an object with at most {most} "
        f"properties, but got an object with {count} properties instead.",
        param,
        "object_above_max_properties",
    )


def empty_string(param: str) -> ServiceError:
    """A string without characters where one is needed."""
    return refused(
        f"Invalid '{param}': empty string. Expected a string with minimum length 1, "
        "but got an empty string instead.",
        param,
        "empty_string",
    )


def string_too_long(param: str, most: int, length: int) -> ServiceError:
    """A string of more than `most` characters."""
    return refused(
        f"Invalid '{param}': string too long. Expected a string with maximum length {most}, "
        f"but got a string with length {length} instead.",
        param,
        "string_above_max_length",
    )


def pattern_mismatch(param: str, pattern: str) -> ServiceError:
    """A string that a pattern does not match."""
    return refused(
        f"Invalid '{param}': string does not match pattern. "
        f"Expected a string that matches the pattern '{pattern}'.",
        param,
        "invalid_value",
    )


def unknown_value(param: str, value: str, supported: tuple[str, ...]) -> ServiceError:
    """A string outside a closed set."""
    listed = ", ".join(f"'{item}'" for item in supported)
    return refused(
        f"Invalid value: '{shown(value)}'. Supported values are: {listed}.", param, "invalid_value"
    )


def too_many_bytes(param: str, most: int, size: int) -> ServiceError:
    """A value that is more than `most` bytes of JSON, or of text."""
    return refused(
        f"Invalid '{param}': too large. Expected at most {most} bytes of JSON, "
        f"but got {size} bytes instead.",
        param,
        "invalid_value",
    )


def nested_too_deeply(param: str) -> ServiceError:
    """A value of more levels than JSON is written with."""
    return refused(f"Invalid '{param}': nested too deeply.", param, "invalid_value")


def exclusive(one: str, other: str) -> ServiceError:
    """Two fields of which a request may have one; `other` is the param."""
    return refused(
        f"Setting '{one}' and '{other}' at the same time is not supported.",
        other,
        "invalid_parameter_combination",
    )


def invalid_function_schema(name: str, problem: str, param: str) -> ServiceError:
    """A function whose parameters cannot be enforced, or break the rules of strict ones."""
    return refused(
        invalid_schema_message("function", name, problem), param, INVALID_PARAMETERS_CODE
    )


def invalid_format_schema(name: str, problem: str) -> ServiceError:
    """A format of the answer that cannot be enforced, or breaks the rules of strict ones."""
    return refused(invalid_schema_message("response_format", name, problem), "response_format")


def invalid_schema_message(kind: str, name: str, problem: str) -> str:
    """The words for a schema that is refused; `kind` is "function" or "response_format"."""
    return f"Invalid schema for {kind} '{shown(name)}': {problem}"


def only_allowed_when(param: str, other: str) -> ServiceError:
    """A field that means something only beside another, which is off."""
    return refused(f"The '{param}' parameter is only allowed when '{other}' is enabled.", param)


def unsupported_parameter(param: str) -> ServiceError:
    """A well-formed field that this model or version does not honour."""
    return ServiceError(
        errors_pb2.ERROR_REASON_UNSUPPORTED_PARAMETER,
        f"Unsupported parameter: '{param}' is not supported with this model.",
        param,
    )


def unsupported_value(param: str, value: str) -> ServiceError:
    """A legal value that this model or version does not honour."""
    return ServiceError(
        errors_pb2.ERROR_REASON_UNSUPPORTED_PARAMETER,
        f"Unsupported value: '{param}' does not support '{shown(value)}' with this model.",
        param,
        openai_code="unsupported_value",
    )


def shown(text: str, most: int = _SHOWN_CHARACTERS) -> str:
    """A caller's text as messages quote it: its beginning, `most` characters."""
    return text if len(text) <= most else text[:most] + "…"


def number_text(value: float) -> str:
    """A number as OpenAI writes it: whole ones without a point."""
    is_whole = isinstance(value, float) and value.is_integer()
    if is_whole and abs(value) < 10**15:
        return str(int(value))
    return str(value)


def _type_name(value: Any) -> str:
    if value == "":
        return "an empty string"
    names = {
        type(None): "null",
        bool: "a boolean",
        int: "an integer",
        float: "a decimal number",
        str: "a string",
        list: "an array",
        dict: "an object",
    }
    return names[type(value)]

"""The body of POST /v1/chat/completions as a validated type.

`FIELDS` is the one table of what a body may hold. A field is carried into `ChatRequest`, or
accepted without effect and reported in `ignored`, or refused unless it is neutral (says what is
the case anyway). Null is absent. A carried field with a neutral value is absent too: nothing was
asked.
"""

import gc
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from typing import Any

import orjson

from edge.openai import checks, problems
from edge.openai.messages import parse_messages
from headrace.client.answers import ChatMessage, ServedModel

MAX_TOKEN_COUNT = 2**32 - 1
MAX_LOGIT_BIAS_ENTRIES = 300
_MAX_MARKS = 250_000


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatRequest:
    """A chat completion request, every value in range; None = not asked for.

    `ignored` names the fields of the body that have no effect, sorted.
    """

    model: str
    messages: tuple[ChatMessage, ...]
    stream: bool = False
    include_usage: bool = False
    max_tokens: int | None = None
    min_tokens: int | None = None
    n: int | None = None
    stop: tuple[str, ...] | None = None
    stop_token_ids: tuple[int, ...] | None = None
    ignore_eos: bool | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    seed: int | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    repetition_penalty: float | None = None
    logit_bias: tuple[tuple[int, float], ...] | None = None
    ignored: tuple[str, ...] = ()


class Use(Enum):
    """What becomes of a field that is present and not neutral."""

    CARRIED = "carried"
    IGNORED = "ignored"
    REFUSED = "refused"


def _never(_value: Any) -> bool:
    return False


@dataclass(frozen=True, slots=True)
class FieldSpec:
    """One field of the body. `honoured_as` is the worker's name of what must be honoured."""

    name: str
    check: checks.Check
    use: Use = Use.CARRIED
    is_neutral: Callable[[Any], bool] = _never
    honoured_as: str | None = None


def _is(*neutral: Any) -> Callable[[Any], bool]:
    return lambda value: value in neutral


def _is_empty(value: Any) -> bool:
    """Nothing but nulls, or nothing at all."""
    return isinstance(value, list | tuple | dict) and not any(entry is not None for entry in value)


def _stop(param: str, value: Any) -> tuple[str, ...]:
    if isinstance(value, str):
        return (_check_stop(param, value),)
    if not isinstance(value, list):
        raise problems.wrong_type(param, "one of a string or array of strings", value)
    strings: tuple[str, ...] = _check_stops(param, value)
    return strings


_check_stop = checks.string(least=1)
_check_stops = checks.array(_check_stop, 4, of="strings")
_check_bias = checks.decimal(-100, 100)


def _logit_bias(param: str, value: Any) -> tuple[tuple[int, float], ...]:
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


def _stream_options(param: str, value: Any) -> Mapping[str, Any]:
    options = checks.json_object(param, value)
    for name in ("include_usage", "include_obfuscation"):
        if options.get(name) is not None:
            checks.boolean(f"{param}.{name}", options[name])
    return options


def _response_format(param: str, value: Any) -> str:
    """The format's type; what else it holds belongs to types that are refused."""
    kind = checks.json_object(param, value).get("type")
    if kind is None:
        raise problems.missing(f"{param}.type")
    checked: str = checks.one_of("text", "json_object", "json_schema")(f"{param}.type", kind)
    return checked


def _modalities(param: str, value: Any) -> tuple[Any, ...]:
    kinds: tuple[Any, ...] = checks.array(checks.one_of("text", "audio"), 2, of="strings")(
        param, value
    )
    return kinds


_FLAG = checks.boolean
_TOKEN_COUNT = checks.integer(1, MAX_TOKEN_COUNT)
_PENALTY = checks.decimal(-2, 2)
_NAME = checks.string()
_FALSE, _ZERO, _ONE = _is(False), _is(0), _is(1)
_IGNORED, _REFUSED = Use.IGNORED, Use.REFUSED

FIELDS: tuple[FieldSpec, ...] = (
    FieldSpec("model", checks.string(least=1)),
    FieldSpec("messages", checks.anything),
    FieldSpec("stream", _FLAG),
    FieldSpec("stream_options", _stream_options),
    FieldSpec("max_tokens", _TOKEN_COUNT),
    FieldSpec("max_completion_tokens", _TOKEN_COUNT),
    FieldSpec("min_tokens", checks.integer(0, MAX_TOKEN_COUNT), Use.CARRIED, _ZERO, "min_tokens"),
    FieldSpec("n", checks.integer(1, 128), Use.CARRIED, _ONE),
    FieldSpec("stop", _stop, Use.CARRIED, _is_empty),
    FieldSpec(
        "stop_token_ids",
        checks.array(checks.integer(0, MAX_TOKEN_COUNT), 64, of="integers"),
        Use.CARRIED,
        _is_empty,
        "stop_token_ids",
    ),
    FieldSpec("ignore_eos", _FLAG, Use.CARRIED, _FALSE, "ignore_eos"),
    FieldSpec("temperature", checks.decimal(0, 2), Use.CARRIED, _ONE, "sampling.temperature"),
    FieldSpec("top_p", checks.decimal(0, 1), Use.CARRIED, _ONE, "sampling.top_p"),
    FieldSpec(
        "top_k", checks.integer(-1, MAX_TOKEN_COUNT), Use.CARRIED, _is(0, -1), "sampling.top_k"
    ),
    FieldSpec("min_p", checks.decimal(0, 1), Use.CARRIED, _ZERO, "sampling.min_p"),
    FieldSpec(
        "seed", checks.integer(-(2**63), 2**63 - 1), Use.CARRIED, honoured_as="sampling.seed"
    ),
    FieldSpec("presence_penalty", _PENALTY, Use.CARRIED, _ZERO, "sampling.presence_penalty"),
    FieldSpec("frequency_penalty", _PENALTY, Use.CARRIED, _ZERO, "sampling.frequency_penalty"),
    FieldSpec(
        "repetition_penalty",
        checks.decimal(0, 2, above_least=True),
        Use.CARRIED,
        _ONE,
        "sampling.repetition_penalty",
    ),
    FieldSpec("logit_bias", _logit_bias, Use.CARRIED, _is(()), "sampling.logit_bias"),
    # Hints and labels: the answer is the same without them.
    FieldSpec("user", _NAME, _IGNORED),
    FieldSpec("safety_identifier", _NAME, _IGNORED),
    FieldSpec("prompt_cache_key", _NAME, _IGNORED),
    FieldSpec("prompt_cache_retention", _NAME, _IGNORED),
    FieldSpec("metadata", checks.string_map(16, 64, 512), _IGNORED, _is_empty),
    FieldSpec("store", _FLAG, _IGNORED, _FALSE),
    FieldSpec(
        "service_tier",
        checks.one_of("auto", "default", "flex", "scale", "priority"),
        _IGNORED,
        _is("auto", "default"),
    ),
    FieldSpec("parallel_tool_calls", _FLAG, _IGNORED),
    FieldSpec("prediction", checks.json_object, _IGNORED),
    # Anything but the neutral value would change the answer.
    FieldSpec("logprobs", _FLAG, _REFUSED, _FALSE),
    FieldSpec("top_logprobs", checks.integer(0, 20), _REFUSED, _ZERO),
    FieldSpec("response_format", _response_format, _REFUSED, _is("text")),
    FieldSpec("tools", checks.anything, _REFUSED, _is_empty),
    FieldSpec("tool_choice", checks.anything, _REFUSED, _is("none", "auto")),
    FieldSpec("functions", checks.anything, _REFUSED, _is_empty),
    FieldSpec("function_call", checks.anything, _REFUSED, _is("none", "auto")),
    FieldSpec("modalities", _modalities, _REFUSED, _is(("text",), ())),
    FieldSpec("audio", checks.json_object, _REFUSED),
    FieldSpec("reasoning_effort", _NAME, _REFUSED, _is("none")),
    FieldSpec("verbosity", checks.one_of("low", "medium", "high"), _REFUSED, _is("medium")),
    FieldSpec("web_search_options", checks.json_object, _REFUSED),
    FieldSpec("guided_json", checks.anything, _REFUSED),
    FieldSpec("guided_regex", checks.anything, _REFUSED),
    FieldSpec("guided_choice", checks.anything, _REFUSED),
    FieldSpec("guided_grammar", checks.anything, _REFUSED),
    FieldSpec("structured_outputs", checks.anything, _REFUSED),
)
"""Every field of the body that has a meaning."""

_KNOWN = frozenset(spec.name for spec in FIELDS)
_REQUIRED = ("model", "messages")
_MODEL_SPECS = tuple(spec for spec in FIELDS if spec.honoured_as is not None)


def parse_chat_request(body: bytes) -> ChatRequest:
    """Validate a request body.

    Raises ServiceError: invalid_request or unsupported_parameter, naming the parameter.
    """
    document = _parse_json(body)
    for name in _REQUIRED:
        if document.get(name) is None:
            raise problems.missing(name)
    ignored = set(document.keys() - _KNOWN)
    values: dict[str, Any] = {}
    for spec in FIELDS:
        value = document.get(spec.name)
        if value is not None:
            _take_field(spec, spec.check(spec.name, value), values, ignored)
    _settle_token_limits(document, values)
    _settle_stream_options(values, ignored)
    values["messages"] = parse_messages(values["messages"], ignored)
    return ChatRequest(**values, ignored=tuple(sorted(ignored)))


def _parse_json(body: bytes) -> dict[str, Any]:
    _check_structure(body)
    try:
        with _no_collection():
            document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        # `doc` of the error is the whole body; only its message may leave.
        raise problems.refused(
            f"We could not parse the JSON body of your request: {error.msg} "
            f"(line {error.lineno}, column {error.colno}).",
            None,
        ) from None
    if not isinstance(document, dict):
        raise problems.refused(
            "We could not parse the JSON body of your request: it must be an object.", None
        )
    if len(document) > checks.MAX_PROPERTIES:
        raise problems.refused(
            f"The JSON body of your request has {len(document)} fields; at most "
            f"{checks.MAX_PROPERTIES} are allowed.",
            None,
        )
    return document


@contextmanager
def _no_collection() -> Iterator[None]:
    """Without the garbage collector, which walks through a growing document again and again."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _check_structure(body: bytes) -> None:
    """Refuse a body that is so much structure that parsing it would hold up everybody else.

    Arrays, objects and keys cost up to a microsecond each, and many times the memory of their
    bytes. Those inside strings count as well: no context holds a text of so many.
    """
    marks = body.count(b"[") + body.count(b"{") + body.count(b":")
    if marks > _MAX_MARKS:
        raise problems.refused(
            f"The JSON body of your request has {marks} opening brackets and colons; at most "
            f"{_MAX_MARKS} are allowed.",
            None,
        )


def _take_field(spec: FieldSpec, value: Any, values: dict[str, Any], ignored: set[str]) -> None:
    if spec.is_neutral(value):
        return
    if spec.use is Use.REFUSED:
        raise problems.unsupported_parameter(spec.name)
    if spec.use is Use.IGNORED:
        ignored.add(spec.name)
    else:
        values[spec.name] = value


def _settle_token_limits(document: Mapping[str, Any], values: dict[str, Any]) -> None:
    newer = values.pop("max_completion_tokens", None)
    if newer is not None:
        if document.get("max_tokens") is not None:
            raise problems.refused(
                "Setting 'max_tokens' and 'max_completion_tokens' at the same time is not "
                "supported.",
                "max_tokens",
                "invalid_parameter_combination",
            )
        values["max_tokens"] = newer
    most = values.get("max_tokens")
    least = values.get("min_tokens")
    if most is not None and least is not None and least > most:
        raise problems.above_maximum("min_tokens", "integer", most, least)


def _settle_stream_options(values: dict[str, Any], ignored: set[str]) -> None:
    options = values.pop("stream_options", None)
    if options is None:
        return
    if not values.get("stream"):
        raise problems.refused(
            "The 'stream_options' parameter is only allowed when 'stream' is enabled.",
            "stream_options",
        )
    values["include_usage"] = bool(options.get("include_usage"))
    ignored.update(
        f"stream_options.{name}"
        for name, value in options.items()
        if name != "include_usage" and value is not None
    )


def check_against_model(request: ChatRequest, model: ServedModel) -> None:
    """Refuse by name what the model's workers do not honour.

    Raises ServiceError: unsupported_parameter, or invalid_request for `n` above their bound.
    """
    for spec in _MODEL_SPECS:
        is_used = getattr(request, spec.name) is not None
        if is_used and spec.honoured_as not in model.honoured_fields:
            raise problems.unsupported_parameter(spec.name)
    if request.n is not None and request.n > model.max_outputs:
        raise problems.above_maximum("n", "integer", model.max_outputs, request.n)

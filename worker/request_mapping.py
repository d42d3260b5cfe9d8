"""From the wire's GenerationRequest to the engine's validated EngineRequest: pure.

Every field is read here or refused by name. What an engine may or may not honour is listed in
OPTIONAL_FIELDS by dotted name, with the test that says whether a request uses it: a neutral value
is not a use. Bounds are those of protos/headrace/worker/v1/generation.proto.
"""

import json
import math
from collections.abc import Callable, Mapping

from headrace.access.caller import ANYBODY
from headrace.common.v1 import errors_pb2
from headrace.rpc.call_metadata import MAX_REQUEST_ID_CHARACTERS
from headrace.rpc.errors import ServiceError
from headrace.telemetry.trace_context import NO_TRACE, TraceContext
from headrace.worker.v1.generation_pb2 import GenerationRequest
from headrace.worker.v1.generation_pb2 import Guide as WireGuide
from headrace.worker.v1.generation_pb2 import SamplingParams as WireSampling
from worker.engine.seam import EngineRequest, Guide, GuideKind, ModelInfo, SamplingParams
from worker.served_names import chosen_name

_INVALID = errors_pb2.ERROR_REASON_INVALID_REQUEST

OPTIONAL_FIELDS: Mapping[str, Callable[[GenerationRequest], bool]] = {
    "sampling.temperature": lambda r: (
        r.sampling.HasField("temperature") and r.sampling.temperature != 1
    ),
    "sampling.top_p": lambda r: r.sampling.HasField("top_p") and r.sampling.top_p != 1,
    "sampling.top_k": lambda r: r.sampling.top_k != 0,
    "sampling.min_p": lambda r: r.sampling.min_p != 0,
    "sampling.presence_penalty": lambda r: r.sampling.presence_penalty != 0,
    "sampling.frequency_penalty": lambda r: r.sampling.frequency_penalty != 0,
    "sampling.repetition_penalty": lambda r: (
        r.sampling.HasField("repetition_penalty") and r.sampling.repetition_penalty != 1
    ),
    "sampling.seed": lambda r: r.sampling.HasField("seed"),
    "sampling.logit_bias": lambda r: bool(r.sampling.logit_bias),
    "output_prefix_token_ids": lambda r: bool(r.output_prefix_token_ids),
    "stop_token_ids": lambda r: bool(r.stop_token_ids),
    "ignore_eos": lambda r: r.ignore_eos,
    "min_tokens": lambda r: r.min_tokens > 0,
    "logprobs": lambda r: r.HasField("logprobs"),
    "guide.json_schema": lambda r: r.guide.HasField("json_schema"),
    "guide.json_object": lambda r: r.guide.HasField("json_object"),
    "guide.regex": lambda r: r.guide.HasField("regex"),
    "guide.grammar": lambda r: r.guide.HasField("grammar"),
    "guide.structural_tag": lambda r: r.guide.HasField("structural_tag"),
    "guide.choice": lambda r: r.guide.HasField("choice"),
    "cache_salt": lambda r: bool(r.cache_salt),
    "priority": lambda r: r.priority != 0,
}
"""Fields that an engine may not honour, and whether a request uses them."""


def engine_request(
    request: GenerationRequest, first_key: int, info: ModelInfo, trace: TraceContext = NO_TRACE
) -> EngineRequest:
    """Validate a request against what the engine serves; `trace` is for the engine's own spans.

    Raises ServiceError: model_not_found, unsupported_parameter, invalid_request or
    context_length_exceeded, naming parameter, bound and value.
    """
    name = chosen_name(info, ANYBODY, request.model)
    _check_honoured(request, info)
    _check_ids(request, info)
    n = _bounded(request, "n", 1, info.max_outputs) if request.HasField("n") else 1
    prefix = tuple(request.output_prefix_token_ids)
    if prefix and n != 1:
        raise ServiceError(_INVALID, f"n must be 1 with output_prefix_token_ids, not {n}.", "n")
    max_tokens = _max_tokens(request, info)
    _check_texts(request)
    if request.HasField("priority"):
        _bounded(request, "priority", -1000, 1000)
    return EngineRequest(
        request_id=request.request_id,
        first_key=first_key,
        prompt_token_ids=tuple(request.prompt_token_ids),
        max_tokens=max_tokens,
        output_prefix_token_ids=prefix,
        output_index=_bounded(request, "output_index", 0, 127),
        sampling=_sampling(request.sampling, info),
        stop_token_ids=frozenset(request.stop_token_ids),
        ignore_eos=request.ignore_eos,
        min_tokens=_min_tokens(request, max_tokens),
        n=n,
        logprobs=_logprobs(request, info),
        guide=_guide(request),
        cache_salt=request.cache_salt,
        priority=request.priority,
        adapter="" if name == info.model else name,
        trace=trace,
    )


def _check_honoured(request: GenerationRequest, info: ModelInfo) -> None:
    for name, is_used in OPTIONAL_FIELDS.items():
        if name not in info.honoured_fields and is_used(request):
            raise ServiceError(
                errors_pb2.ERROR_REASON_UNSUPPORTED_PARAMETER,
                f"Unsupported parameter: '{name}' is not honoured by the {info.engine} engine.",
                name,
            )


def _check_ids(request: GenerationRequest, info: ModelInfo) -> None:
    if not request.prompt_token_ids:
        raise ServiceError(_INVALID, "prompt_token_ids must not be empty.", "prompt_token_ids")
    if len(request.stop_token_ids) > 64:
        raise ServiceError(
            _INVALID,
            f"stop_token_ids has {len(request.stop_token_ids)} entries; at most 64 are allowed.",
            "stop_token_ids",
        )
    for name in ("prompt_token_ids", "output_prefix_token_ids", "stop_token_ids"):
        highest = max(getattr(request, name), default=0)
        if highest >= info.vocabulary_size:
            raise ServiceError(
                _INVALID,
                f"{name} holds {highest}; the vocabulary ends at {info.vocabulary_size - 1}.",
                name,
            )


def _check_texts(request: GenerationRequest) -> None:
    if not 1 <= len(request.request_id) <= MAX_REQUEST_ID_CHARACTERS:
        raise ServiceError(
            _INVALID,
            f"request_id has {len(request.request_id)} characters; 1 to "
            f"{MAX_REQUEST_ID_CHARACTERS} are allowed.",
            "request_id",
        )
    bounds = (("cache_salt", 256), ("tracestate", 512))
    for name, most in bounds:
        size = len(getattr(request, name).encode())
        if size > most:
            raise ServiceError(
                _INVALID, f"{name} has {size} bytes; at most {most} are allowed.", name
            )


def _max_tokens(request: GenerationRequest, info: ModelInfo) -> int:
    room = info.context_length - len(request.prompt_token_ids)
    done = len(request.output_prefix_token_ids)
    wanted = request.max_tokens if request.HasField("max_tokens") else room
    if request.HasField("max_tokens") and wanted < 1:
        raise ServiceError(_INVALID, f"max_tokens must be at least 1, not {wanted}.", "max_tokens")
    if room < 1 or wanted > room:
        raise ServiceError(
            errors_pb2.ERROR_REASON_CONTEXT_LENGTH_EXCEEDED,
            f"This model's maximum context length is {info.context_length} tokens; the prompt has "
            f"{len(request.prompt_token_ids)} and {max(wanted, 1)} more were requested.",
            "max_tokens" if request.HasField("max_tokens") else "prompt_token_ids",
        )
    if done >= wanted:
        raise ServiceError(
            _INVALID,
            f"output_prefix_token_ids has {done} tokens; max_tokens {wanted} leaves none.",
            "output_prefix_token_ids",
        )
    return wanted


def _min_tokens(request: GenerationRequest, max_tokens: int) -> int:
    if request.min_tokens > max_tokens:
        raise ServiceError(
            _INVALID,
            f"min_tokens is {request.min_tokens}; max_tokens is {max_tokens}.",
            "min_tokens",
        )
    return request.min_tokens


def _logprobs(request: GenerationRequest, info: ModelInfo) -> int | None:
    if not request.HasField("logprobs"):
        return None
    return _bounded(request, "logprobs", 0, info.max_logprobs)


def _guide(request: GenerationRequest) -> Guide | None:
    if not request.HasField("guide"):
        return None
    kind = request.guide.WhichOneof("kind")
    if kind is None:
        raise ServiceError(_INVALID, "guide must have a kind.", "guide")
    if request.ignore_eos:
        raise ServiceError(
            _INVALID, "ignore_eos must be false with a guide, which decides the end.", "ignore_eos"
        )
    return Guide(kind, _guide_text(request.guide, kind))


def _guide_text(wire: WireGuide, kind: GuideKind) -> str:
    if kind == "json_object":
        if not wire.json_object:
            raise ServiceError(
                _INVALID, "guide.json_object must not be false.", "guide.json_object"
            )
        return ""
    if kind == "choice":
        alternatives = list(wire.choice.alternatives)
        if not (alternatives and all(alternatives)):
            raise ServiceError(
                _INVALID,
                "guide.choice must have at least one alternative, and none that is empty.",
                "guide.choice",
            )
        return json.dumps(alternatives, ensure_ascii=False)
    text: str = getattr(wire, kind)
    if not text:
        raise ServiceError(_INVALID, f"guide.{kind} must not be empty.", f"guide.{kind}")
    return text


def _bounded(request: GenerationRequest, name: str, least: int, most: int) -> int:
    value: int = getattr(request, name)
    if not least <= value <= most:
        raise ServiceError(_INVALID, f"{name} must be {least} to {most}, not {value}.", name)
    return value


_RANGES: Mapping[str, tuple[float, float]] = {
    "temperature": (0.0, 2.0),
    "top_p": (0.0, 1.0),
    "min_p": (0.0, 1.0),
    "presence_penalty": (-2.0, 2.0),
    "frequency_penalty": (-2.0, 2.0),
    "repetition_penalty": (0.0, 2.0),
}


def _sampling(wire: WireSampling, info: ModelInfo) -> SamplingParams:
    values: dict[str, float] = {}
    for name, (least, most) in _RANGES.items():
        if not wire.HasField(name):  # type: ignore[arg-type] # names of optional fields
            continue
        value = getattr(wire, name)
        if not (math.isfinite(value) and least <= value <= most):
            raise ServiceError(
                _INVALID,
                f"sampling.{name} must be {least:g} to {most:g}, not {value:g}.",
                f"sampling.{name}",
            )
        values[name] = value
    if values.get("repetition_penalty") == 0:
        raise ServiceError(
            _INVALID,
            "sampling.repetition_penalty must be above 0, not 0.",
            "sampling.repetition_penalty",
        )
    return SamplingParams(
        **values,
        top_k=wire.top_k,
        seed=wire.seed if wire.HasField("seed") else None,
        logit_bias=_logit_bias(wire, info),
    )


def _logit_bias(wire: WireSampling, info: ModelInfo) -> tuple[tuple[int, float], ...]:
    name = "sampling.logit_bias"
    if len(wire.logit_bias) > 300:
        raise ServiceError(
            _INVALID, f"{name} has {len(wire.logit_bias)} entries; at most 300 are allowed.", name
        )
    for entry in wire.logit_bias:
        if entry.token_id >= info.vocabulary_size:
            raise ServiceError(
                _INVALID,
                f"{name} holds {entry.token_id}; the vocabulary ends at "
                f"{info.vocabulary_size - 1}.",
                name,
            )
        if not -100 <= entry.bias <= 100:
            raise ServiceError(_INVALID, f"{name} must be -100 to 100, not {entry.bias:g}.", name)
    return tuple((entry.token_id, entry.bias) for entry in wire.logit_bias)

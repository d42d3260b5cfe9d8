"""Pure: from a request to the keyword arguments of SamplingParams and GuidedDecodingParams.

Everything that has a default of its own is named: the library's defaults are others than ours (32
tokens, greedy), and where its sampler is told nothing of a seed every request draws alike.
"""

import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from headrace.common.v1 import errors_pb2
from headrace.rpc.errors import ServiceError
from worker.engine.seam import EngineRequest, Guide

_REGEX_SPECIAL = frozenset("\\.+*?()|[]{}^$")


@dataclass(frozen=True, slots=True)
class EndTokens:
    """The model's end tokens. The library takes one; the others are stops to it.

    `of_guides` is the one that its tokenizer knows: a guide allows no other.
    """

    all: frozenset[int]
    of_guides: int | None = None

    @property
    def main(self) -> int:
        """The one that the library is told of."""
        known = self.of_guides
        return known if known is not None and known in self.all else min(self.all)

    def stops(self, request: EngineRequest) -> frozenset[int]:
        """Every id that ends an output of the request."""
        own = frozenset() if request.ignore_eos else self.all
        if request.guide is not None and self.of_guides is not None:
            own |= {self.of_guides}
        return own | request.stop_token_ids


@dataclass(frozen=True, slots=True)
class SamplingContext:
    """What of the engine a request's arguments depend on."""

    ends: EndTokens
    vocabulary_size: int
    uses_cpp_sampler: bool = False


def is_fanned_out(request: EngineRequest) -> bool:
    """Several greedy outputs are one and the same, and the library refuses to compute them."""
    return request.n > 1 and request.sampling.is_greedy


def sampling_arguments(request: EngineRequest, context: SamplingContext) -> dict[str, Any]:
    """Keyword arguments of SamplingParams for one request; never used for another.

    `guided_decoding` holds those of GuidedDecodingParams, `embedding_bias` a size and entries.
    Raises ServiceError for a guide that cannot be put.
    """
    done = len(request.output_prefix_token_ids)
    ends = context.ends
    n = 1 if is_fanned_out(request) else request.n
    arguments: dict[str, Any] = {
        "max_tokens": request.max_tokens - done,
        "n": n,
        "best_of": n,
        # Only one end token is known to it. Naming it also says which token a plain stop was.
        "end_id": ends.main,
        "pad_id": ends.main,
        "stop_token_ids": sorted(ends.stops(request) - {ends.main}) or None,
        "ignore_eos": request.ignore_eos,
        "detokenize": False,
        **_drawing(request, context),
    }
    if request.ignore_eos and ends.main in request.stop_token_ids:
        arguments["stop_token_ids"] = sorted(request.stop_token_ids)
    if request.min_tokens > done:
        arguments["min_tokens"] = request.min_tokens - done
    if request.logprobs is not None:
        # To 1.2 zero means none at all.
        arguments["logprobs"] = max(request.logprobs, 1)
    if request.sampling.logit_bias:
        arguments["embedding_bias"] = (context.vocabulary_size, request.sampling.logit_bias)
    if request.guide is not None:
        arguments["guided_decoding"] = guide_arguments(request.guide)
    return arguments


def guide_arguments(guide: Guide) -> dict[str, Any]:
    """Keyword arguments of GuidedDecodingParams. Raises ServiceError, naming the guide."""
    match guide.kind:
        case "json_schema":
            return {"json": guide.text}
        case "json_object":
            return {"json_object": True}
        case "regex":
            return {"regex": guide.text}
        case "grammar":
            return {"grammar": guide.text}
        case "structural_tag":
            return {"structural_tag": _structural_tag(guide)}
        case "choice":
            alternatives: list[str] = json.loads(guide.text)
            return {"regex": "|".join(f"({_literal(text)})" for text in alternatives)}


def check_continuation(request: EngineRequest) -> None:
    """Raise ServiceError where a prefix that is read as prompt would change the answer.

    A guide would begin anew, as would the draws of a seed, and penalties of the output forget it.
    """
    sampling = request.sampling
    if request.output_index and sampling.seed is not None:
        raise ServiceError(
            errors_pb2.ERROR_REASON_UNSUPPORTED_PARAMETER,
            "output_index cannot be combined with sampling.seed on the tensorrt_llm engine, whose "
            "draws begin anew.",
            "output_index",
        )
    if not request.output_prefix_token_ids:
        return
    conflicts = {
        request.guide.param if request.guide else "guide": request.guide is not None,
        "sampling.seed": sampling.seed is not None,
        "sampling.presence_penalty": sampling.presence_penalty != 0,
        "sampling.frequency_penalty": sampling.frequency_penalty != 0,
    }
    for name, is_used in conflicts.items():
        if is_used:
            raise ServiceError(
                errors_pb2.ERROR_REASON_UNSUPPORTED_PARAMETER,
                f"output_prefix_token_ids cannot be combined with {name} on the tensorrt_llm "
                "engine, which reads them as prompt.",
                "output_prefix_token_ids",
            )


def _drawing(request: EngineRequest, context: SamplingContext) -> Mapping[str, Any]:
    sampling = request.sampling
    values: dict[str, Any] = {
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "top_k": sampling.top_k,
    }
    if not context.uses_cpp_sampler:
        return values
    seed = secrets.randbits(63) if sampling.seed is None else sampling.seed
    return values | {
        "min_p": sampling.min_p,
        "presence_penalty": sampling.presence_penalty,
        "frequency_penalty": sampling.frequency_penalty,
        "repetition_penalty": sampling.repetition_penalty,
        # Unsigned there, signed on the wire.
        "seed": seed % (1 << 64),
    }


def _literal(text: str) -> str:
    return "".join(f"\\{char}" if char in _REGEX_SPECIAL else char for char in text)


def _structural_tag(guide: Guide) -> str:
    """The document with the type that xgrammar asks for."""
    try:
        document = json.loads(guide.text)
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict):
        raise ServiceError(
            errors_pb2.ERROR_REASON_INVALID_REQUEST,
            f"{guide.param} must be a JSON object.",
            guide.param,
        )
    return json.dumps({"type": "structural_tag", **document}, ensure_ascii=False)

"""Pure: what can be refused before the library sees a request.

The library finds some of these out late, some by hanging: a request that its whole cache cannot
hold is never scheduled.
"""

from dataclasses import dataclass

from headrace.common.v1 import errors_pb2
from headrace.rpc.errors import ServiceError
from worker.engine.seam import EngineRequest
from worker.engine.tensorrt_llm.sampling_arguments import check_continuation
from worker.engine.tensorrt_llm.settings import TensorRtLlmSettings

_TOO_LONG = errors_pb2.ERROR_REASON_CONTEXT_LENGTH_EXCEEDED


@dataclass(frozen=True, slots=True)
class RequestLimits:
    """Bounds in tokens and bytes; `pool_tokens` is None while it is not known."""

    prompt_tokens: int | None
    guide_bytes: int
    pool_tokens: int | None = None


def request_limits(settings: TensorRtLlmSettings, pool_tokens: int) -> RequestLimits:
    """The bounds of these settings."""
    return RequestLimits(
        prompt_tokens=None if settings.chunked_prefill else settings.max_num_tokens,
        guide_bytes=settings.guide_max_bytes,
        pool_tokens=pool_tokens or None,
    )


def check_request(request: EngineRequest, limits: RequestLimits) -> None:
    """Raise ServiceError, naming bound and value, for what cannot be computed."""
    given = request.num_given_tokens
    if not request.prompt_token_ids:
        raise ServiceError(
            errors_pb2.ERROR_REASON_INVALID_REQUEST,
            "prompt_token_ids must not be empty.",
            "prompt_token_ids",
        )
    if limits.prompt_tokens is not None and given > limits.prompt_tokens:
        raise ServiceError(
            _TOO_LONG,
            f"The prompt has {given} tokens; without chunked prefill at most "
            f"{limits.prompt_tokens} can be read.",
            "prompt_token_ids",
        )
    # The last token of an output is never read, so it needs no place.
    needed = len(request.prompt_token_ids) + request.max_tokens - 1
    if limits.pool_tokens is not None and needed > limits.pool_tokens:
        raise ServiceError(
            _TOO_LONG,
            f"Prompt and max_tokens need room for {needed} tokens; the whole KV cache holds "
            f"{limits.pool_tokens}.",
            "max_tokens",
        )
    _check_guide(request, limits.guide_bytes)
    check_continuation(request)


def _check_guide(request: EngineRequest, most: int) -> None:
    if request.guide is None:
        return
    size = len(request.guide.text.encode())
    if size > most:
        raise ServiceError(
            errors_pb2.ERROR_REASON_INVALID_REQUEST,
            f"{request.guide.param} has {size} bytes; at most {most} are allowed.",
            request.guide.param,
        )

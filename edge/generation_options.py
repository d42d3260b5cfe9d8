"""From a validated chat request to the backend's generation options."""

from edge.openai.chat_request import ChatRequest
from edge.request_scope import RequestScope
from headrace.client.answers import GenerationOptions, ServedModel
from headrace.worker.v1.generation_pb2 import LogitBias, SamplingParams

_PLAIN_FIELDS = (
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "presence_penalty",
    "frequency_penalty",
    "repetition_penalty",
    "seed",
)


def generation_options(
    request: ChatRequest, scope: RequestScope, model: ServedModel, deadline: float
) -> GenerationOptions:
    """What to generate; `deadline` on the event loop's clock, in seconds.

    A priority is the operator's wish and not the client's: where a model knows none, it is dropped.
    """
    return GenerationOptions(
        request_id=scope.request_id,
        sampling=_sampling_params(request),
        max_tokens=request.max_tokens,
        min_tokens=request.min_tokens or 0,
        n=request.n or 1,
        logprobs=request.logprobs,
        stop_strings=request.stop or (),
        stop_token_ids=request.stop_token_ids or (),
        ignore_eos=bool(request.ignore_eos),
        cache_salt=scope.caller.cache_salt,
        priority=scope.caller.priority if "priority" in model.honoured_fields else 0,
        deadline=deadline,
        trace=scope.trace,
    )


def _sampling_params(request: ChatRequest) -> SamplingParams:
    sampling = SamplingParams(
        logit_bias=[LogitBias(token_id=key, bias=bias) for key, bias in request.logit_bias or ()]
    )
    for name in _PLAIN_FIELDS:
        value = getattr(request, name)
        if value is not None:
            setattr(sampling, name, value)
    return sampling

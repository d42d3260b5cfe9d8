"""From the parent's request to the worker's: what enqueueing checks, and what it refuses with.

Any error in here is that request's RequestError, as every exception of the worker's enqueueing is.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from tensorrt_llm.double.adapters import AdapterError, AdapterStore
from tensorrt_llm.double.sampler import Drawing, honoured
from tensorrt_llm.double.sequences import WorkerRequest
from tensorrt_llm.double.switches import Switches

_FLOAT32 = "torch.float32"


class EnqueueError(Exception):
    """The worker cannot take a request."""


def worker_request(
    request: Any, args: Any, vocabulary_size: int, switches: Switches, adapters: AdapterStore
) -> WorkerRequest:
    """Of a GenerationRequest and TorchLlmArgs. Raises EnqueueError."""
    params = request.sampling_params
    try:
        adapter_id, adapter = adapters.loaded(request.lora_request)
        stops = [ids for _, ids in params._get_stop_reasons_and_words()]
        bad = params._get_bad_words()
    except (AdapterError, RuntimeError) as error:
        raise EnqueueError(str(error)) from error
    return WorkerRequest(
        request_id=request.id,
        prompt=tuple(request.prompt_token_ids),
        num_sequences=params.best_of or params.n,
        max_tokens=params.max_tokens,
        min_tokens=params.min_tokens or 0,
        end_id=-1 if params.ignore_eos else params.end_id,
        stop_sequences=tuple(tuple(ids) for ids in stops if ids),
        bad_sequences=tuple(tuple(ids) for ids in bad if ids),
        drawing=_drawing(params, args, vocabulary_size, switches),
        streaming=request.streaming,
        namespace=f"{adapter_id}:{_salt(request, switches)}",
        adapter=adapter,
        logprobs=params._asked_logprobs,
        prompt_logprobs=params.prompt_logprobs or 0,
        guide=params.guided_decoding,
        wants_metrics=params.return_perf_metrics or args.return_perf_metrics,
        priorities=_priorities(request.kv_cache_retention_config),
        decode_priority=_decode_priority(request.kv_cache_retention_config),
    )


def _salt(request: Any, switches: Switches) -> str:
    return (request.cache_salt or "") if switches.salts_separate else ""


def _drawing(params: Any, args: Any, vocabulary_size: int, switches: Switches) -> Drawing:
    names = honoured(args.sampler_type, switches.torch_sampler_honours)
    given: Mapping[str, Any] = {
        name: getattr(params, name) for name in names if getattr(params, name) is not None
    }
    return Drawing(
        temperature=params.temperature,
        top_p=params.top_p,
        top_k=params.top_k,
        bias=_bias(params.embedding_bias, vocabulary_size),
        **given,
    )


def _bias(tensor: Any, vocabulary_size: int) -> dict[int, float]:
    """Of a float32 tensor as wide as the vocabulary."""
    if tensor is None:
        return {}
    if not hasattr(tensor, "numpy"):
        raise EnqueueError(f"embedding_bias must be a torch.Tensor, not {type(tensor).__name__}")
    if str(tensor.dtype) != _FLOAT32 or tuple(tensor.shape) != (vocabulary_size,):
        raise EnqueueError(
            f"embedding_bias must be {_FLOAT32} of shape [{vocabulary_size}], "
            f"got {tensor.dtype} {tuple(tensor.shape)}"
        )
    values = tensor.numpy()
    return {int(index): float(values[index]) for index in np.flatnonzero(values)}


def _priorities(config: Any) -> tuple[tuple[int, int | None, int, float | None], ...]:
    if config is None:
        return ()
    return tuple(
        (item.token_start, item.token_end, item.priority, _seconds(item.duration_ms))
        for item in config.token_range_retention_configs
    )


def _decode_priority(config: Any) -> tuple[int, float | None] | None:
    if config is None:
        return None
    return config.decode_retention_priority, _seconds(config.decode_duration_ms)


def _seconds(duration: Any) -> float | None:
    return None if duration is None else duration.total_seconds()

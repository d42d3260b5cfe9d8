"""Pure: from settings and a model's directory to the keyword arguments of LLM(...).

Optional arguments are passed only where they are wanted: later releases rename fields and forbid
those that they do not know. Source of names: TensorRT-LLM 1.2's TorchLlmArgs.
"""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from headrace.models.directory import ModelDirectory
from headrace.runtime.errors import StartError
from worker.engine.tensorrt_llm.adapters import Adapter, lora_values
from worker.engine.tensorrt_llm.settings import (
    CudaGraphSettings,
    KvCacheSettings,
    SchedulerSettings,
    SpeculativeSettings,
    TensorRtLlmSettings,
)

_DECODING = {
    "draft_target": "DraftTargetDecodingConfig",
    "eagle3": "EagleDecodingConfig",
    "mtp": "MTPDecodingConfig",
    "ngram": "NGramDecodingConfig",
}
_DRAFT_FIELDS = ("speculative_model", "speculative_model_dir")


def llm_arguments(
    settings: TensorRtLlmSettings,
    model: ModelDirectory,
    configs: Any,
    adapters: Sequence[Adapter] = (),
) -> dict[str, Any]:
    """Keyword arguments of LLM(...); `configs` is the module of its config classes.

    Raises StartError where this build lacks what the settings ask for.
    """
    arguments: dict[str, Any] = {
        "model": str(model.path),
        "tensor_parallel_size": settings.tensor_parallel,
        "pipeline_parallel_size": settings.pipeline_parallel,
        "dtype": settings.dtype,
        "trust_remote_code": settings.trust_remote_code,
        "max_batch_size": settings.max_batch_size,
        "max_num_tokens": settings.max_num_tokens,
        "max_seq_len": sequence_length(settings, model),
        "enable_chunked_prefill": settings.chunked_prefill,
        "disable_overlap_scheduler": not settings.overlap_scheduler,
        "stream_interval": settings.stream_interval,
        "sampler_type": settings.sampler,
        "enable_iter_perf_stats": settings.iteration_statistics,
        "kv_cache_config": _kv_cache(settings.kv_cache, configs),
        "scheduler_config": _scheduler(settings.scheduler, configs),
        # None is no default here: it turns capturing off.
        "cuda_graph_config": _cuda_graphs(settings.cuda_graphs, configs),
    }
    arguments |= _optional(settings)
    if adapters:
        arguments["lora_config"] = configs.LoraConfig(**lora_values(adapters, settings.lora))
    if settings.speculative.method != "none":
        arguments["speculative_config"] = _speculative(settings.speculative, configs)
    return arguments


def sequence_length(settings: TensorRtLlmSettings, model: ModelDirectory) -> int:
    """Prompt and output together, in tokens."""
    return min(settings.max_seq_len or model.context_length, model.context_length)


def retention(settings: KvCacheSettings, configs: Any) -> Any | None:
    """The retention priorities that every request carries; None: the library's."""
    if not settings.has_retention:
        return None
    kind = configs.KvCacheRetentionConfig
    seconds = settings.retention_seconds
    # A timedelta, whatever the field's name says.
    duration = None if seconds is None else timedelta(seconds=seconds)
    ranges = []
    if settings.prompt_priority is not None:
        ranges.append(kind.TokenRangeRetentionConfig(0, None, settings.prompt_priority, duration))
    values: dict[str, Any] = {"token_range_retention_configs": ranges}
    if settings.answer_priority is not None:
        values["decode_retention_priority"] = settings.answer_priority
        values["decode_duration_ms"] = duration
    return kind(**values)


def _optional(settings: TensorRtLlmSettings) -> dict[str, Any]:
    """What is passed only where it is wanted."""
    values: dict[str, Any] = {
        "moe_expert_parallel_size": settings.expert_parallel,
        "gpus_per_node": settings.gpus_per_node,
        "enable_attention_dp": settings.attention_data_parallel or None,
        "guided_decoding_backend": (
            None if settings.guided_decoding_backend == "none" else settings.guided_decoding_backend
        ),
    }
    if settings.traces_endpoint:
        # Its tracer makes no span without these.
        values |= {"otlp_traces_endpoint": settings.traces_endpoint, "return_perf_metrics": True}
    if settings.expert_parallel is not None:
        values["moe_tensor_parallel_size"] = settings.tensor_parallel // settings.expert_parallel
    return {name: value for name, value in values.items() if value is not None}


def _kv_cache(settings: KvCacheSettings, configs: Any) -> Any:
    values: dict[str, Any] = {
        "enable_block_reuse": settings.reuse,
        "enable_partial_reuse": settings.partial_reuse,
        "tokens_per_block": settings.block_tokens,
        "free_gpu_memory_fraction": settings.free_memory_fraction,
        "dtype": settings.dtype,
    }
    if settings.max_tokens is not None:
        values["max_tokens"] = settings.max_tokens
    if settings.host_cache_bytes:
        values["host_cache_size"] = settings.host_cache_bytes
    return configs.KvCacheConfig(**values)


def _scheduler(settings: SchedulerSettings, configs: Any) -> Any:
    values = {"capacity_scheduler_policy": settings.capacity.upper()}
    if settings.chunking != "default":
        values["context_chunking_policy"] = settings.chunking.upper()
    return configs.SchedulerConfig(**values)


def _cuda_graphs(settings: CudaGraphSettings, configs: Any) -> Any | None:
    if not settings.enabled:
        return None
    values: dict[str, Any] = {"enable_padding": settings.padding}
    if settings.batch_sizes:
        values["batch_sizes"] = sorted(settings.batch_sizes)
    if settings.max_batch_size is not None:
        values["max_batch_size"] = settings.max_batch_size
    return configs.CudaGraphConfig(**values)


def _speculative(settings: SpeculativeSettings, configs: Any) -> Any:
    name = _DECODING[settings.method]
    kind = getattr(configs, name, None)
    if kind is None:
        raise StartError(f"this build of TensorRT-LLM has no {name}")
    values: dict[str, Any] = {"max_draft_len": settings.max_draft_tokens}
    if settings.method == "mtp" and "num_nextn_predict_layers" in kind.model_fields:
        values["num_nextn_predict_layers"] = settings.max_draft_tokens
    if settings.draft_model is not None:
        values[_draft_field(kind)] = str(settings.draft_model)
    return kind(**values)


def _draft_field(kind: Any) -> str:
    """The field for the draft model: its name changed during 1.2."""
    for name in _DRAFT_FIELDS:
        if name in kind.model_fields:
            return name
    raise StartError(f"{kind.__name__} of this build of TensorRT-LLM takes no draft model")

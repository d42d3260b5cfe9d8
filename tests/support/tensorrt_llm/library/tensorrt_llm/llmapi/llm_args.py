"""TorchLlmArgs: every field of the contract's section 2.2, checked as far as it tells.

Checking needs a GPU, as it does in the real library: with none, construction raises RuntimeError.
Fields that only a GPU could honour are kept and not looked at; README.md lists them.
"""

from collections.abc import Mapping
from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from tensorrt_llm.double.machine import current
from tensorrt_llm.llmapi import decoding_configs
from tensorrt_llm.llmapi.cache_configs import (
    KvCacheConfig,
    KvCacheRetentionConfig,
    KvCacheTransferMode,
)
from tensorrt_llm.llmapi.decoding_configs import DecodingBaseConfig
from tensorrt_llm.llmapi.engine_configs import (
    CapacitySchedulerPolicy,
    ContextChunkingPolicy,
    CudaGraphConfig,
    DynamicBatchConfig,
    LoraConfig,
    PeftCacheConfig,
    SchedulerConfig,
)
from tensorrt_llm.llmapi.strict_model import StrictBaseModel

__all__ = [
    "CapacitySchedulerPolicy",
    "ContextChunkingPolicy",
    "CudaGraphConfig",
    "DynamicBatchConfig",
    "KvCacheConfig",
    "KvCacheRetentionConfig",
    "KvCacheTransferMode",
    "LoraConfig",
    "PeftCacheConfig",
    "SchedulerConfig",
    "TorchLlmArgs",
]

TENSORRT_ONLY = frozenset(
    (
        "build_config",
        "enable_build_cache",
        "enable_tqdm",
        "extended_runtime_perf_knob_config",
        "calib_config",
        "embedding_parallel_mode",
        "fast_build",
        "normalize_log_probs",
        "workspace",
    )
)
_NORMALISED = ("max_batch_size", "max_input_len", "max_beam_width", "max_num_tokens")
_OLDEST_FOR_BFLOAT16 = (8, 0)


def __getattr__(name: str) -> Any:
    """The decoding configs, which differ between versions."""
    if name in decoding_configs.NAMES:
        return decoding_configs.decoding_config(name, current().switches.draft_field)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


class TorchLlmArgs(StrictBaseModel):
    """Arguments of the PyTorch backend."""

    model: str
    tokenizer: Any = None
    tokenizer_mode: Literal["auto", "slow"] = "auto"
    skip_tokenizer_init: bool = False
    trust_remote_code: bool = False
    dtype: str = "auto"
    revision: str | None = None
    tokenizer_revision: str | None = None
    backend: Literal["pytorch", "_autodeploy"] = "pytorch"
    orchestrator_type: Literal["rpc", "ray"] | None = None

    tensor_parallel_size: int = Field(default=1, ge=1)
    pipeline_parallel_size: int = Field(default=1, ge=1)
    context_parallel_size: int = Field(default=1, ge=1)
    gpus_per_node: int | None = None
    moe_cluster_parallel_size: int | None = None
    moe_tensor_parallel_size: int | None = None
    moe_expert_parallel_size: int | None = None
    enable_attention_dp: bool = False

    max_batch_size: int = Field(default=2048, ge=1)
    max_input_len: int = Field(default=1024, ge=1)
    max_seq_len: int | None = None
    max_beam_width: int = Field(default=1, ge=1)
    max_num_tokens: int = Field(default=8192, ge=1)

    enable_chunked_prefill: bool = False
    kv_cache_config: KvCacheConfig = Field(default_factory=KvCacheConfig)
    scheduler_config: SchedulerConfig = Field(default_factory=SchedulerConfig)
    cuda_graph_config: CudaGraphConfig | None = Field(default_factory=CudaGraphConfig)
    disable_overlap_scheduler: bool = False
    guided_decoding_backend: Literal["xgrammar", "llguidance"] | None = None
    sampler_type: Literal["auto", "TorchSampler", "TRTLLMSampler"] = "auto"
    speculative_config: Any = None
    enable_lora: bool = False
    lora_config: LoraConfig | None = None
    peft_cache_config: PeftCacheConfig | None = None

    stream_interval: int = Field(default=1, ge=1)
    return_perf_metrics: bool = False
    perf_metrics_max_requests: int = Field(default=0, ge=0)
    enable_iter_perf_stats: bool = False
    enable_iter_req_stats: bool = False
    max_stats_len: int = Field(default=1000, ge=1)
    otlp_traces_endpoint: str | None = None
    num_postprocess_workers: int = Field(default=0, ge=0)
    gather_generation_logits: bool = False
    batch_wait_timeout_ms: float = Field(default=0, ge=0)
    batch_wait_timeout_iters: int = Field(default=0, ge=0)
    batch_wait_max_tokens_ratio: float = Field(default=0, ge=0, le=1)

    print_iter_log: bool = False
    attn_backend: str = "TRTLLM"
    load_format: Literal["auto", "dummy", "vision_only"] = "auto"
    checkpoint_format: str | None = "HF"
    allreduce_strategy: str | None = "AUTO"
    fail_fast_on_attention_window_too_large: bool = False
    garbage_collection_gen0_threshold: int = 20_000
    env_overrides: dict[str, str] | None = None
    model_kwargs: dict[str, Any] | None = None
    custom_tokenizer: str | None = None
    reasoning_parser: str | None = None

    @property
    def world_size(self) -> int:
        """GPUs in all."""
        sizes = (self.tensor_parallel_size, self.pipeline_parallel_size, self.context_parallel_size)
        return sizes[0] * sizes[1] * sizes[2]

    @model_validator(mode="before")
    @classmethod
    def _normalise(cls, values: Any) -> Any:
        """None stands for the default in four fields."""
        if not isinstance(values, Mapping):
            return values
        return {k: v for k, v in values.items() if not (k in _NORMALISED and v is None)}

    @field_validator("speculative_config", mode="before")
    @classmethod
    def _one_of(cls, value: Any) -> DecodingBaseConfig | None:
        if value is None:
            return None
        return decoding_configs.parsed(value, current().switches.draft_field)

    @model_validator(mode="after")
    def _meets_hardware(self) -> Self:
        switches = current().switches
        if not switches.gpus:
            raise RuntimeError("No CUDA GPUs are available")
        if self.dtype == "bfloat16" and switches.compute_capability < _OLDEST_FOR_BFLOAT16:
            raise RuntimeError("Pre SM 80 GPUs do not support bfloat16")
        if self.gpus_per_node is None:
            self.gpus_per_node = switches.gpus
        on_this_node = min(self.world_size, self.gpus_per_node)
        if switches.gpus < on_this_node:
            raise RuntimeError(
                f"Only {switches.gpus} GPUs are available, but {on_this_node} are required."
            )
        kind = getattr(self.speculative_config, "decoding_type", None)
        if kind in decoding_configs.OTHER_TYPES.values():
            raise ValueError(f"speculative_config {kind} is not supported by the PyTorch backend")
        return self

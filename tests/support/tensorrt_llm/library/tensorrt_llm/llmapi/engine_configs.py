"""Scheduler, CUDA graphs, LoRA and its caches. Source: the contract's section 2.2."""

from enum import StrEnum
from typing import Self

from pydantic import Field, model_validator

from tensorrt_llm.llmapi.strict_model import StrictBaseModel


class CapacitySchedulerPolicy(StrEnum):
    """Whether running requests may be paused for others."""

    MAX_UTILIZATION = "MAX_UTILIZATION"
    GUARANTEED_NO_EVICT = "GUARANTEED_NO_EVICT"
    STATIC_BATCH = "STATIC_BATCH"


class ContextChunkingPolicy(StrEnum):
    """Which prompt is read on when not all can be."""

    FIRST_COME_FIRST_SERVED = "FIRST_COME_FIRST_SERVED"
    EQUAL_PROGRESS = "EQUAL_PROGRESS"


class DynamicBatchConfig(StrictBaseModel):
    """Tunes the sizes of batches at run time."""

    enable_batch_size_tuning: bool
    enable_max_num_tokens_tuning: bool
    dynamic_batch_moving_average_window: int


class SchedulerConfig(StrictBaseModel):
    """The scheduler."""

    capacity_scheduler_policy: CapacitySchedulerPolicy = CapacitySchedulerPolicy.GUARANTEED_NO_EVICT
    context_chunking_policy: ContextChunkingPolicy | None = None
    dynamic_batch_config: DynamicBatchConfig | None = None


class CudaGraphConfig(StrictBaseModel):
    """Sizes of batches that are captured. Raises ValueError where the two sizes contradict."""

    batch_sizes: list[int] | None = None
    max_batch_size: int = Field(default=0, ge=0)
    enable_padding: bool = False

    @model_validator(mode="after")
    def _agree(self) -> Self:
        sizes = self.batch_sizes
        if sizes and self.max_batch_size and max(sizes) != self.max_batch_size:
            raise ValueError(
                f"max_batch_size {self.max_batch_size} contradicts batch_sizes {sizes}"
            )
        if sizes is not None and any(size < 1 for size in sizes):
            raise ValueError(f"batch_sizes must be positive, got {sizes}")
        if not (sizes or self.max_batch_size):
            self.max_batch_size = 128
        return self


class LoraConfig(StrictBaseModel):
    """Adapters."""

    lora_dir: list[str] = Field(default_factory=list)
    lora_ckpt_source: str = "hf"
    max_lora_rank: int = 64
    lora_target_modules: list[str] = Field(default_factory=list)
    max_loras: int | None = None
    max_cpu_loras: int | None = None


class PeftCacheConfig(StrictBaseModel):
    """Where adapters' weights are cached; `host_cache_size` in bytes."""

    host_cache_size: int = 1 << 30
    device_cache_percent: float = Field(default=0.02, ge=0, le=1)
    num_put_workers: int = 1
    num_ensure_workers: int = 1

"""KvCacheConfig, and what a request may ask of its blocks.

Source: the contract's section 5.
"""

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import ClassVar

from pydantic import Field

from tensorrt_llm.llmapi.strict_model import StrictBaseModel

_DEFAULT_PRIORITY = 35


class KvCacheConfig(StrictBaseModel):
    """The cache; sizes in tokens, bytes (`host_cache_size`) or a fraction of free memory."""

    enable_block_reuse: bool = True
    max_tokens: int | None = None
    max_attention_window: list[int] | None = None
    sink_token_length: int | None = None
    free_gpu_memory_fraction: float | None = Field(default=0.9, ge=0, le=1)
    host_cache_size: int | None = None
    onboard_blocks: bool = True
    cross_kv_cache_fraction: float | None = None
    secondary_offload_min_priority: int | None = None
    event_buffer_max_size: int = 0
    attention_dp_events_gather_period_ms: int = 5
    enable_partial_reuse: bool = True
    copy_on_partial_reuse: bool = True
    use_uvm: bool = False
    max_gpu_total_bytes: int = 0
    dtype: str = "auto"
    mamba_ssm_cache_dtype: str = "auto"
    tokens_per_block: int = 32


class KvCacheTransferMode(StrEnum):
    """Where offloaded blocks go."""

    DRAM = "DRAM"
    GDS = "GDS"
    POSIX_DEBUG_FALLBACK = "POSIX_DEBUG_FALLBACK"


@dataclass(frozen=True, slots=True)
class _TokenRangeRetentionConfig:
    """`token_end` is exclusive, None: to the end; `priority` 0 to 100."""

    token_start: int
    token_end: int | None = None
    priority: int = _DEFAULT_PRIORITY
    duration_ms: timedelta | None = None

    def __post_init__(self) -> None:
        _check(self.priority, self.duration_ms)


@dataclass(frozen=True, slots=True)
class KvCacheRetentionConfig:
    """How long blocks of a request are kept. Raises ValueError, TypeError."""

    TokenRangeRetentionConfig: ClassVar[type[_TokenRangeRetentionConfig]] = (
        _TokenRangeRetentionConfig
    )

    token_range_retention_configs: list[_TokenRangeRetentionConfig]
    decode_retention_priority: int = _DEFAULT_PRIORITY
    decode_duration_ms: timedelta | None = None
    transfer_mode: KvCacheTransferMode = KvCacheTransferMode.DRAM
    directory: str = ""

    def __post_init__(self) -> None:
        _check(self.decode_retention_priority, self.decode_duration_ms)
        if not all(
            isinstance(item, _TokenRangeRetentionConfig)
            for item in self.token_range_retention_configs
        ):
            raise TypeError("token_range_retention_configs must hold TokenRangeRetentionConfig")


def _check(priority: int, duration: timedelta | None) -> None:
    if not 0 <= priority <= 100:
        raise ValueError(f"priority {priority} is not between 0 and 100")
    if not (duration is None or isinstance(duration, timedelta)):
        raise TypeError(f"duration_ms must be a timedelta, not {type(duration).__name__}")

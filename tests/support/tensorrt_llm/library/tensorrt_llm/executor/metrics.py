"""Performance metrics of one request; times are timedeltas of a steady clock."""

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

from tensorrt_llm.double.sequences import Metrics, Timing


class MetricNames(StrEnum):
    """Keys of metrics_dict."""

    TTFT = "ttft"
    TPOT = "tpot"
    E2E = "e2e"
    REQUEST_QUEUE_TIME = "request_queue_time"


@dataclass(frozen=True, slots=True)
class TimingMetrics:
    """Only differences mean anything."""

    arrival_time: timedelta
    first_scheduled_time: timedelta
    first_token_time: timedelta
    last_token_time: timedelta
    kv_cache_transfer_start: timedelta
    kv_cache_transfer_end: timedelta
    kv_cache_size: int


@dataclass(frozen=True, slots=True)
class KvCacheMetrics:
    """In blocks."""

    num_total_allocated_blocks: int
    num_new_allocated_blocks: int
    num_reused_blocks: int
    num_missed_blocks: int
    kv_cache_hit_rate: float


@dataclass(frozen=True, slots=True)
class SpeculativeDecodingMetrics:
    """In draft tokens."""

    acceptance_rate: float
    total_accepted_draft_tokens: int
    total_draft_tokens: int


@dataclass(frozen=True, slots=True)
class RequestPerfMetrics:
    """All three, and the iterations that the request took part in."""

    timing_metrics: TimingMetrics
    kv_cache_metrics: KvCacheMetrics
    speculative_decoding: SpeculativeDecodingMetrics
    first_iter: int
    last_iter: int


def perf_metrics(told: Metrics) -> RequestPerfMetrics:
    """As the library's classes."""
    blocks = told.allocated_blocks + told.reused_blocks
    return RequestPerfMetrics(
        timing_metrics=_timing(told.timing),
        kv_cache_metrics=KvCacheMetrics(
            num_total_allocated_blocks=told.allocated_blocks,
            num_new_allocated_blocks=told.allocated_blocks,
            num_reused_blocks=told.reused_blocks,
            num_missed_blocks=told.allocated_blocks,
            kv_cache_hit_rate=told.reused_blocks / blocks if blocks else 0.0,
        ),
        speculative_decoding=SpeculativeDecodingMetrics(
            acceptance_rate=told.accepted_draft_tokens / max(told.draft_tokens, 1),
            total_accepted_draft_tokens=told.accepted_draft_tokens,
            total_draft_tokens=told.draft_tokens,
        ),
        first_iter=told.first_iteration,
        last_iter=told.last_iteration,
    )


def metrics_dict(told: Metrics, num_tokens: int) -> dict[MetricNames, float]:
    """Seconds by name, positive ones only; no time per token for up to one token."""
    timing = told.timing
    values = {
        MetricNames.TTFT: timing.first_token - timing.arrival,
        MetricNames.E2E: timing.last_token - timing.arrival,
        MetricNames.REQUEST_QUEUE_TIME: timing.first_scheduled - timing.arrival,
    }
    if num_tokens > 1:
        values[MetricNames.TPOT] = (timing.last_token - timing.first_token) / (num_tokens - 1)
    return {name: value for name, value in values.items() if value > 0}


def _timing(timing: Timing) -> TimingMetrics:
    return TimingMetrics(
        arrival_time=timedelta(seconds=timing.arrival),
        first_scheduled_time=timedelta(seconds=timing.first_scheduled),
        first_token_time=timedelta(seconds=timing.first_token),
        last_token_time=timedelta(seconds=timing.last_token),
        kv_cache_transfer_start=timedelta(),
        kv_cache_transfer_end=timedelta(),
        kv_cache_size=0,
    )

"""Builds a worker out of the library's arguments: model, pool, scheduler, thread."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tensorrt_llm.double.blocks import BlockPool, PoolLimits
from tensorrt_llm.double.cache_events import CacheEvents, EventForm
from tensorrt_llm.double.guides import GuideError, Guides
from tensorrt_llm.double.iteration import Iteration, Limits
from tensorrt_llm.double.machine import Machine
from tensorrt_llm.double.model import FakeModel
from tensorrt_llm.double.scheduler import Policy, Scheduler
from tensorrt_llm.double.stepping import Stepper
from tensorrt_llm.double.switches import ModelFacts
from tensorrt_llm.double.worker import Worker


@dataclass(frozen=True, slots=True)
class Assembled:
    """The worker, what can be read of it, and the length that it deduced."""

    worker: Worker
    readers: dict[str, Callable[[float], list[dict[str, Any]]]]
    max_seq_len: int


def assemble(args: Any, facts: ModelFacts, tokenizer: Any, machine: Machine) -> Assembled:
    """Of TorchLlmArgs; `tokenizer` may be None."""
    limits = _pool_limits(args.kv_cache_config, machine)
    events = CacheEvents(_event_form(args, facts, machine))
    events.created([limits.total, limits.host])
    pool = BlockPool(limits, events)
    longest = min(args.max_seq_len or facts.max_seq_len, limits.total * limits.tokens_per_block)
    iteration = Iteration(
        machine,
        Scheduler(_policy(args, machine), pool),
        Stepper(FakeModel(facts), machine.switches),
        Limits(longest, _draft_tokens(args), args.stream_interval, args.max_stats_len),
        _guides(args, facts, tokenizer),
    )
    worker = Worker(machine, iteration)

    def read_stats(_timeout_seconds: float) -> list[dict[str, Any]]:
        if not args.enable_iter_perf_stats:
            return []
        return iteration.take_stats()

    readers = {"stats": read_stats, "kv_events": events.take}
    return Assembled(worker, readers, longest)


def _pool_limits(config: Any, machine: Machine) -> PoolLimits:
    switches = machine.switches
    total = switches.kv_blocks
    if config.max_tokens is not None:
        total = min(total, -(-config.max_tokens // config.tokens_per_block))
    return PoolLimits(
        total=total,
        tokens_per_block=config.tokens_per_block,
        host=(config.host_cache_size or 0) // switches.block_bytes,
        reuses=config.enable_block_reuse,
        reuses_partially=config.enable_partial_reuse,
        onboards=config.onboard_blocks,
        offload_min_priority=config.secondary_offload_min_priority,
        high_hashes=switches.high_hashes,
    )


def _event_form(args: Any, facts: ModelFacts, machine: Machine) -> EventForm:
    switches = machine.switches
    config = args.kv_cache_config
    window = args.max_seq_len or facts.max_seq_len
    rank = 0 if args.enable_attention_dp else None
    return EventForm(
        capacity=config.event_buffer_max_size if config.enable_block_reuse else 0,
        tokens_per_block=config.tokens_per_block,
        windows=(*switches.event_windows, window),
        rank=rank if switches.event_rank is None else switches.event_rank,
        gap_every=switches.event_gap_every,
        tells_partial_blocks=switches.partial_block_events,
        none_diffs=switches.none_diffs,
    )


def _policy(args: Any, machine: Machine) -> Policy:
    scheduler = args.scheduler_config
    return Policy(
        capacity=str(scheduler.capacity_scheduler_policy),
        chunks_equally=str(scheduler.context_chunking_policy) == "EQUAL_PROGRESS",
        max_sequences=args.max_batch_size,
        token_budget=args.max_num_tokens,
        counts_partial_reuse=machine.switches.counts_partial_reuse,
    )


def _draft_tokens(args: Any) -> int:
    config = args.speculative_config
    return 0 if config is None else (config.max_draft_len or 0)


def _guides(args: Any, facts: ModelFacts, tokenizer: Any) -> Guides | GuideError | None:
    if args.guided_decoding_backend is None:
        return None
    file = None if tokenizer is None else tokenizer.file
    try:
        end_id = facts.end_token_ids[0]
        return Guides(args.guided_decoding_backend, file, facts.vocabulary_size, end_id)
    except GuideError as error:
        return error

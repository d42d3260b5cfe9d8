"""Iteration statistics: camelCase keys, as the contract's section 6 lists them.

Requests are counted as paused in the iteration that paused them, as the library does.
"""

from typing import Any

from tensorrt_llm.double.scheduler import Scheduler


def stats_of(number: int, scheduler: Scheduler) -> dict[str, Any]:
    """One iteration's."""
    pool = scheduler.pool
    counts = pool.counts
    looked_up = counts.reused + counts.missed
    paused, scheduler.num_paused = scheduler.num_paused, 0
    reading = sum(not request.has_prefilled for request in scheduler.active)
    return {
        "iter": number,
        "iterLatencyMS": 1.0,
        "numActiveRequests": len(scheduler.active),
        "maxNumActiveRequests": scheduler.policy.max_sequences,
        "numQueuedRequests": len(scheduler.waiting),
        "cpuMemUsage": 0,
        "gpuMemUsage": pool.limits.total * pool.limits.tokens_per_block,
        "kvCacheStats": {
            "maxNumBlocks": pool.limits.total,
            "usedNumBlocks": pool.used,
            "freeNumBlocks": pool.free,
            "tokensPerBlock": pool.limits.tokens_per_block,
            "allocTotalBlocks": counts.allocated,
            "allocNewBlocks": counts.new,
            "reusedBlocks": counts.reused,
            "missedBlocks": counts.missed,
            "cacheHitRate": counts.reused / looked_up if looked_up else 0.0,
        },
        "inflightBatchingStats": {
            "numPausedRequests": paused,
            "numContextRequests": reading,
            "numGenRequests": len(scheduler.active) - reading,
        },
    }

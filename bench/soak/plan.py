"""How long, how much, and what the services are set to while it lasts."""

from dataclasses import dataclass

from bench.services import Tables

REQUEST_SECONDS = 180.0
"""A request that has not ended after so long never will."""
BODY_TIMEOUT_SECONDS = 5.0

# Small enough that blocks run out and bursts are refused, so that those paths are walked as well.
TABLES: Tables = {
    "edge.server": {"body_timeout_seconds": BODY_TIMEOUT_SECONDS},
    "edge.admission": {"max_concurrent_requests": 24, "max_queued_requests": 12},
    "worker.openvino": {"kv_cache_bytes": 24 << 20, "max_queued_outputs": 64},
}


@dataclass(frozen=True)
class SoakPlan:
    """A run. `rate` is requests a second of all clients together, bursts not counted."""

    model: str
    minutes: float = 30.0
    clients: int = 64
    rate: float = 2.0
    burst_seconds: float = 120.0
    sample_seconds: float = 10.0
    settle_seconds: float = 60.0
    seed: int = 1

"""Hints for the scheduler."""

from dataclasses import dataclass


@dataclass(slots=True, kw_only=True)
class SchedulingParams:
    """Pins a request to a rank under attention data parallelism."""

    attention_dp_rank: int | None = None
    attention_dp_relax: bool | None = None

"""What the engines are given, and what is read off when their tokens came."""

import random
import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Protocol

TEMPERATURE, TOP_P = 0.7, 0.9


@dataclass(frozen=True)
class Load:
    """So many prompts at the same moment, none of which shares a block with another."""

    sequences: int
    prompt_tokens: int
    new_tokens: int

    def prompts(self, chance: random.Random) -> list[list[int]]:
        """New ones at each call: no cache helps."""
        return [chance.choices(range(1000, 40_000), k=self.prompt_tokens) for _ in self._outputs]

    @property
    def _outputs(self) -> range:
        return range(self.sequences)


@dataclass
class Timeline:
    """When each output's tokens came, in seconds of the monotonic clock.

    `prompt_tokens` is what was really fed, where that is not the ids given. `weights` says how many
    tokens an arrival of an output stands for, where that is not one.
    """

    began: float = field(default_factory=time.perf_counter)
    arrivals: dict[int, list[float]] = field(default_factory=dict)
    prompt_tokens: int | None = None
    weights: dict[int, float] = field(default_factory=dict)

    def add(self, output: int, count: int) -> None:
        """So many tokens have come now."""
        self.arrivals.setdefault(output, []).extend([time.perf_counter()] * count)

    @property
    def prefill_seconds(self) -> float:
        """Until every output had its first token."""
        return max(times[0] for times in self.arrivals.values()) - self.began

    @property
    def decode_rate(self) -> float:
        """Tokens a second of all outputs together, while all of them decode."""
        begin = max(times[0] for times in self.arrivals.values())
        end = min(times[-1] for times in self.arrivals.values())
        counted = sum(
            self.weights.get(output, 1.0) * sum(begin < at <= end for at in times)
            for output, times in self.arrivals.items()
        )
        return counted / (end - begin)

    def gaps(self, begin: float, end: float) -> Iterator[float]:
        """Seconds between two tokens of the same output, of those that came in this time."""
        for times in self.arrivals.values():
            for before, after in pairwise(times):
                if begin <= before and after <= end:
                    yield after - before


class Engine(Protocol):
    """One of those compared."""

    name: str

    def cpu_seconds(self) -> float:
        """CPU time that the process which computes has used so far."""

    async def run(self, prompts: Sequence[Sequence[int]], new_tokens: int) -> Timeline:
        """Generate exactly so many tokens behind each prompt, with sampling on."""


def percentile(values: Sequence[float], share: float) -> float:
    """The value that this share of all lies below."""
    return statistics.quantiles(values, n=1000, method="inclusive")[round(share * 1000) - 1]

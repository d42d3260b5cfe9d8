"""What was measured, and what follows: the cost of a request apart from that of being there."""

import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from bench.tracing.sets import AGAIN, ALL, NONE, OFF

MOST_MS = {NONE: 0.1, ALL: 1.5}
"""Bounds of the cost of a request over all services, in milliseconds of CPU."""
MOST_IDLE_MS = 1.0
"""Bound of what tracing costs a second over all services while nothing is asked: 0.1 % of a CPU."""
MOST_NOISE_MS = MOST_MS[NONE]
"""By how much two sets that trace nothing may differ, if the smallest bound is to be judged."""
MOST_LAG_MS = 10.0
MIN_SPANS = 7
"""Spans of a request, over all services."""

Shares = Mapping[str, float]
"""Milliseconds of CPU by service."""


@dataclass(frozen=True)
class Start:
    """What one start of all sets used, by set."""

    idle: Mapping[str, Shares]
    """Milliseconds a second while nothing is asked."""
    rounds: Mapping[str, Sequence[Shares]]
    """Milliseconds a request, without what the set would have used idle; by round."""

    def cost(self, mode: str) -> float:
        """What a request of `mode` costs more than one without tracing, over all services.

        The median over the rounds of differences within a round, from the mean of both sets
        without tracing; of the second of those, from the first.
        """
        sums = {each: [sum(one.values()) for one in self.rounds[each]] for each in self.rounds}
        plain = [sums[each] for each in _plain(mode)]
        cost: float = statistics.median(
            used - statistics.mean(others)
            for used, others in zip(sums[mode], zip(*plain, strict=True), strict=True)
        )
        return cost

    def idle_cost(self, mode: str) -> float:
        """What a second of `mode` costs more than one without tracing while nothing is asked."""
        idle = {each: sum(self.idle[each].values()) for each in self.idle}
        return idle[mode] - statistics.mean(idle[each] for each in _plain(mode))


def _plain(mode: str) -> Sequence[str]:
    """The sets that a set is compared with."""
    return (OFF,) if mode == AGAIN else (OFF, AGAIN)


@dataclass(frozen=True)
class Outcome:
    """All that a run has shown; `lags` are milliseconds by set and service."""

    starts: Sequence[Start]
    lags: Mapping[str, Shares]
    spans: float
    """Sent for a request."""
    dropped: float

    def cost(self, mode: str) -> float:
        """Of a request, in milliseconds: the median over the starts."""
        return statistics.median(start.cost(mode) for start in self.starts)

    def idle_cost(self, mode: str) -> float:
        """Of a second while nothing is asked, in milliseconds: the median over the starts."""
        return statistics.median(start.idle_cost(mode) for start in self.starts)


def net_shares(before: Shares, after: Shares, idle: Shares, seconds: float, of: int) -> Shares:
    """Milliseconds that each of so many requests cost, without what the time alone costs.

    `before` and `after` are CPU seconds, `idle` milliseconds a second.
    """
    return {
        name: (1e3 * (after[name] - before[name]) - idle[name] * seconds) / of for name in before
    }


def verdicts(outcome: Outcome) -> Iterator[tuple[bool, str]]:
    """Each bound: whether it is kept, and the figures."""
    noise = abs(outcome.cost(AGAIN))
    text = f"two sets without tracing differ by {noise:.3f} ms a request, at most {MOST_NOISE_MS:g}"
    yield noise <= MOST_NOISE_MS, text
    for mode, most in MOST_MS.items():
        cost = outcome.cost(mode)
        yield cost <= most, f"tracing {mode}: {cost:.3f} ms of CPU a request, at most {most:g}"
        cost = outcome.idle_cost(mode)
        text = f"tracing {mode}, idle: {cost:.3f} ms of CPU a second, at most {MOST_IDLE_MS:g}"
        yield cost <= MOST_IDLE_MS, text
    lag = max(outcome.lags[ALL].values())
    text = f"loop lag with tracing {ALL}: p99 below {lag:g} ms, at most {MOST_LAG_MS:g}"
    yield lag <= MOST_LAG_MS, text
    spans = outcome.spans
    yield spans >= MIN_SPANS, f"{spans:.2f} spans a request were sent, at least {MIN_SPANS}"
    yield outcome.dropped == 0, f"{outcome.dropped:g} spans were lost, none is allowed to be"

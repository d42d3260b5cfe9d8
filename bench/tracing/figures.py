"""What the services' own metrics say: spans sent and lost, and the loops' lag."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.request import urlopen

from prometheus_client.parser import text_string_to_metric_families

_LAG = "headrace_loop_lag_seconds_bucket"


@dataclass(frozen=True)
class Figures:
    """A service's figures at a moment; `lag` counts probes by the bucket's upper bound."""

    exported: float
    dropped: float
    lag: Mapping[float, float]


def read_figures(port: int) -> Figures:
    """By the health port of a service."""
    with urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        text = answer.read().decode()
    exported, dropped, lag = 0.0, 0.0, {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name == "headrace_spans_exported_total":
                exported += sample.value
            elif sample.name == "headrace_spans_dropped_total":
                dropped += sample.value
            elif sample.name == _LAG:
                lag[float(sample.labels["le"])] = sample.value
    return Figures(exported, dropped, lag)


def lag_below(before: Figures, after: Figures, part: float) -> float:
    """The bound, in seconds, below which `part` of the probes between two moments were."""
    probes = {bound: after.lag[bound] - before.lag[bound] for bound in sorted(after.lag)}
    total = probes[math.inf]
    if not total:
        raise RuntimeError("the loop was not probed")
    return next(bound for bound, below in probes.items() if below >= part * total)

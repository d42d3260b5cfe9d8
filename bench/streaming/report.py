"""The figures of a run as a table, a JSON file and a picture."""

import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")
from matplotlib import pyplot as plt

SERVICES = ("edge", "tokenizer", "worker")


@dataclass(frozen=True)
class Sample:
    """One point in one round: microseconds of CPU per token, achieved rate, gaps."""

    point: str
    streams: int
    workers: int
    rate: float
    floor_us: float
    edge_us: float
    tokenizer_us: float
    worker_us: float
    load_cores: float
    achieved: float
    gap_p99_ms: float
    gap_max_ms: float
    floor_gap_p99_ms: float
    lost_streams: int

    def floors(self, service: str) -> float:
        """The service's cost in floors of the same round."""
        cost: float = getattr(self, f"{service}_us")
        return cost / self.floor_us


def medians(samples: Sequence[Sample], point: str) -> dict[str, float]:
    """Medians over the rounds of one point; ratios are taken within a round."""
    rounds = [sample for sample in samples if sample.point == point]
    row = {
        name: statistics.median(getattr(sample, name) for sample in rounds)
        for name in ("floor_us", "edge_us", "tokenizer_us", "worker_us", "achieved", "gap_p99_ms")
    }
    for service in SERVICES:
        row[f"{service}_floors"] = statistics.median(s.floors(service) for s in rounds)
    return row


def table(samples: Sequence[Sample]) -> str:
    """A line per point, in the order measured."""
    lines = [
        (
            "point      rate/s  floor us |  edge us  floors |   tok us  floors |"
            " worker us  floors | achieved  gap p99 ms"
        )
    ]
    for point in dict.fromkeys(sample.point for sample in samples):
        row = medians(samples, point)
        rate = next(sample.rate for sample in samples if sample.point == point)
        lines.append(
            f"{point:10} {rate:6.0f}  {row['floor_us']:8.2f} |"
            f" {row['edge_us']:8.2f} {row['edge_floors']:7.2f} |"
            f" {row['tokenizer_us']:8.2f} {row['tokenizer_floors']:7.2f} |"
            f" {row['worker_us']:9.2f} {row['worker_floors']:7.2f} |"
            f" {row['achieved']:8.1%} {row['gap_p99_ms']:11.1f}"
        )
    return "\n".join(lines)


def write_json(samples: Sequence[Sample], machine: Mapping[str, object], path: Path) -> None:
    """All samples, and the medians."""
    points = dict.fromkeys(sample.point for sample in samples)
    document = {
        "machine": machine,
        "medians": {point: medians(samples, point) for point in points},
        "samples": [asdict(sample) for sample in samples],
    }
    path.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


def write_picture(samples: Sequence[Sample], path: Path) -> None:
    """Cost per token of each service in floors, a group of bars per point; lower is better."""
    points = list(dict.fromkeys(sample.point for sample in samples))
    rows = [medians(samples, point) for point in points]
    figure, axes = plt.subplots(figsize=(8, 4.5), layout="constrained")
    width = 0.26
    for offset, service in enumerate(SERVICES):
        places = [index + (offset - 1) * width for index in range(len(points))]
        values = [row[f"{service}_floors"] for row in rows]
        bars = axes.bar(places, values, width, label=service)
        axes.bar_label(bars, fmt="%.1f", fontsize=8)
    axes.axhline(1.0, color="black", linewidth=0.8, linestyle="--", label="floor: only the bytes")
    axes.set_yscale("log")
    axes.set_xticks(range(len(points)), points)
    axes.set_xlabel("concurrent streams (workers x streams)")
    axes.set_ylabel("CPU per streamed token, in floors")
    axes.set_title("What a streamed token costs")
    axes.legend()
    figure.savefig(path, dpi=120)
    plt.close(figure)

"""Did everything come back? One verdict a quantity, from the samples alone."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from bench.soak.outcomes import Outcomes
from bench.soak.sampling import Sample

MOST_GROWTH = 1.10
"""Median memory of the last third over that of the first third after the warm-up."""
MOST_DESCRIPTORS = 4
"""Descriptors beyond those at the start: a few idle connections."""
MOST_THREADS = 8
"""Threads beyond the most of the first third after the warm-up: pools grow at the first use."""

_WARM_UP = 0.1
_LEAST_SAMPLES = 18
_EMPTY = (
    "edge_requests",
    "edge_queue",
    "tokenizer_outputs",
    "worker_requests",
    "worker_queue",
    "referenced_blocks",
)


@dataclass(frozen=True)
class Verdict:
    """`is_kept` None: the run was too short to tell."""

    quantity: str
    is_kept: bool | None
    detail: str


@dataclass(frozen=True)
class Run:
    """Before the load, during it, and when all was idle again (or was waited for in vain)."""

    start: Sample
    during: Sequence[Sample]
    end: Sample


def is_idle(sample: Sample) -> bool:
    """Nothing runs or waits, and nobody holds a block."""
    return not any(sample.tables[name] for name in _EMPTY)


def has_closed(sample: Sample, start: Sample) -> bool:
    """Descriptors are back where they were."""
    return all(
        state.descriptors <= start.processes[service].descriptors + MOST_DESCRIPTORS
        for service, state in sample.processes.items()
    )


def verdicts(run: Run, outcomes: Outcomes) -> list[Verdict]:
    """All of them, memory last."""
    settled = _settled(run.during)
    services = list(run.start.processes)
    return [
        _answers(outcomes),
        *(_is_empty(run.end, name) for name in _EMPTY),
        _blocks(run.end),
        *(_descriptors(run, service) for service in services),
        *(_threads(run, settled, service) for service in services),
        *(_memory(run, settled, service) for service in services),
    ]


def _answers(outcomes: Outcomes) -> Verdict:
    unexpected = outcomes.of("UNEXPECTED")
    answered = outcomes.of("answered")
    return Verdict(
        "requests",
        unexpected == 0 and answered > 0,
        f"{outcomes.total} ended, {answered} of them answered, {outcomes.of('refused')} refused, "
        f"{unexpected} in an unexpected way",
    )


def _is_empty(end: Sample, name: str) -> Verdict:
    left = end.tables[name]
    return Verdict(name.replace("_", " "), left == 0, f"{left} at the end")


def _blocks(end: Sample) -> Verdict:
    free, cached, total = (
        end.tables[name] for name in ("free_blocks", "cached_blocks", "total_blocks")
    )
    return Verdict("blocks", free + cached == total, f"{free} free + {cached} cached of {total}")


def _descriptors(run: Run, service: str) -> Verdict:
    start, end = (each.processes[service].descriptors for each in (run.start, run.end))
    most = max(each.processes[service].descriptors for each in (*run.during, run.end))
    return Verdict(
        f"descriptors of {service}",
        end <= start + MOST_DESCRIPTORS,
        f"{start} at the start, {most} at most, {end} at the end; bound {start + MOST_DESCRIPTORS}",
    )


def _threads(run: Run, settled: Sequence[Sample], service: str) -> Verdict:
    start, end = (each.processes[service].threads for each in (run.start, run.end))
    name = f"threads of {service}"
    if len(settled) < _LEAST_SAMPLES:
        return Verdict(name, None, f"{start} at the start, {end} at the end")
    first = settled[: len(settled) // 3]
    bound = max(each.processes[service].threads for each in first) + MOST_THREADS
    return Verdict(name, end <= bound, f"{start} at the start, {end} at the end; bound {bound}")


def _memory(run: Run, settled: Sequence[Sample], service: str) -> Verdict:
    name = f"memory of {service}"
    start, end = (each.processes[service].rss_bytes / 1e6 for each in (run.start, run.end))
    if len(settled) < _LEAST_SAMPLES:
        shown = f"{start:.0f} MB at the start, {end:.0f} at the end; too few samples to judge"
        return Verdict(name, None, shown)
    megabytes = [each.processes[service].rss_bytes / 1e6 for each in settled]
    third = len(settled) // 3
    first, last = statistics.median(megabytes[:third]), statistics.median(megabytes[-third:])
    return Verdict(
        name,
        last <= first * MOST_GROWTH,
        f"{start:.0f} MB at the start, {megabytes[0]:.0f} after the warm-up, {end:.0f} at the end; "
        f"first third {first:.0f}, last third {last:.0f}, bound {first * MOST_GROWTH:.0f}; "
        f"{_slope(settled, megabytes):+.1f} MB an hour over the second half",
    )


def _settled(during: Sequence[Sample]) -> list[Sample]:
    """Without the first tenth of the time, in which caches fill and pools grow."""
    begin = during[-1].seconds * _WARM_UP if during else 0.0
    return [each for each in during if each.seconds >= begin]


def _slope(settled: Sequence[Sample], megabytes: Sequence[float]) -> float:
    """Megabytes an hour by least squares over the second half."""
    half = len(settled) // 2
    hours = [each.seconds / 3600 for each in settled[half:]]
    return statistics.linear_regression(hours, megabytes[half:]).slope

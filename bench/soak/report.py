"""The run in words: a line a sample, tables of outcomes and verdicts; all of it as JSON."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from bench.soak.outcomes import Outcomes
from bench.soak.plan import SoakPlan
from bench.soak.sampling import Sample
from bench.soak.verdicts import Verdict

_WORDS = {True: "kept", False: "BROKEN", None: "not judged"}


def progress(sample: Sample, outcomes: Outcomes) -> str:
    """One line."""
    tables = sample.tables
    memory = ", ".join(
        f"{service} {state.rss_bytes / 1e6:.0f} MB {state.descriptors} fd {state.threads} thr"
        for service, state in sample.processes.items()
    )
    return (
        f"{sample.seconds:6.0f} s: {outcomes.total} ended, {outcomes.of('refused')} refused, "
        f"{outcomes.of('UNEXPECTED')} unexpected; {tables['worker_requests']} run, "
        f"blocks {tables['free_blocks']}/{tables['cached_blocks']}/{tables['referenced_blocks']}, "
        f"{tables['preemptions']} preempted; {memory}"
    )


def outcome_table(outcomes: Outcomes) -> str:
    """A line per kind of request and how it ended."""
    lines = ["| request | ended | count |", "|---|---|---|"]
    lines += [
        f"| {kind} | {how} | {count} |" for (kind, how), count in sorted(outcomes.counts.items())
    ]
    return "\n".join([*lines, *outcomes.unexpected])


def verdict_table(verdicts: Sequence[Verdict]) -> str:
    """A line per quantity."""
    lines = ["| quantity | verdict | |", "|---|---|---|"]
    lines += [f"| {each.quantity} | {_WORDS[each.is_kept]} | {each.detail} |" for each in verdicts]
    return "\n".join(lines)


def write_json(
    plan: SoakPlan,
    samples: Sequence[Sample],
    outcomes: Outcomes,
    verdicts: Sequence[Verdict],
    path: Path,
) -> None:
    """Everything."""
    document = {
        "plan": asdict(plan),
        "verdicts": [asdict(each) for each in verdicts],
        "outcomes": {f"{kind}: {how}": n for (kind, how), n in sorted(outcomes.counts.items())},
        "unexpected": outcomes.unexpected,
        "samples": [asdict(each) for each in samples],
    }
    path.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")

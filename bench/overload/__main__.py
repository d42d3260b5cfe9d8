"""Measure goodput and refusals while ten times more arrives than an edge has places for.

A paced worker stands behind one edge with a bounded number of places and a short queue. First as
many clients as there are places ask without a pause: that is the capacity. Then requests arrive at
`--factor` times that rate, whether answered or not, for `--seconds`. Memory is the largest that was
seen in each process meanwhile, beside the largest of the first phase.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bench.engine.load import percentile
from bench.overload.load import OverloadPlan
from bench.services import running_services
from bench.soak.sampling import process_state

_RATE = 50.0
_PHASES = ("capacity", "overload")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.overload", description=__doc__)
    parser.add_argument("--places", type=int, default=32, help="requests at work (%(default)s)")
    parser.add_argument("--queue", type=int, default=16, help="requests that wait (%(default)s)")
    parser.add_argument(
        "--tokens", type=int, default=50, help="of an answer on average (%(default)s)"
    )
    parser.add_argument("--factor", type=float, default=10.0, help="overload (%(default)s)")
    parser.add_argument("--seconds", type=float, default=60.0, help="of overload (%(default)s)")
    parser.add_argument("--model", default="SmolLM2-135M-Instruct")
    parser.add_argument("--out", type=Path, default=Path("bench/results"), help="folder to write")
    return parser.parse_args()


def _measure(arguments: argparse.Namespace, folder: Path) -> dict[str, Any]:
    tables = {
        "edge.admission": {
            "max_concurrent_requests": arguments.places,
            "max_queued_requests": arguments.queue,
        },
        "worker": {"engine": "paced"},
        "worker.paced": {"tokens_per_second": _RATE},
    }
    with running_services(arguments.model, tables, folder) as services:
        plan = OverloadPlan(
            port=services.edge_port,
            model=arguments.model,
            clients=arguments.places,
            max_tokens=arguments.tokens,
            capacity_seconds=10.0,
            factor=arguments.factor,
            seconds=arguments.seconds,
            most_open=4000,
        )
        answers, largest = folder / "answers.json", dict[str, dict[str, float]]()
        began = time.monotonic()
        command = [sys.executable, "-m", "bench.overload.load", json.dumps(asdict(plan))]
        with answers.open("wb") as output, subprocess.Popen(command, stdout=output) as child:
            while child.poll() is None:
                is_first = time.monotonic() - began < plan.capacity_seconds
                _keep_largest(largest.setdefault(_PHASES[not is_first], {}), services.pids)
                with suppress(subprocess.TimeoutExpired):
                    child.wait(0.5)
        if child.returncode:
            raise SystemExit(f"the load generator ended with {child.returncode}")
        result: dict[str, Any] = json.loads(answers.read_text(encoding="utf-8"))
    return _figures(result, largest)


def _keep_largest(largest: dict[str, float], pids: Mapping[str, int]) -> None:
    for service, pid in pids.items():
        largest[service] = max(largest.get(service, 0.0), process_state(pid).rss_bytes / 2**20)


def _figures(result: dict[str, Any], memory: Mapping[str, Mapping[str, float]]) -> dict[str, Any]:
    """What is reported; lists of times become percentiles."""
    figures: dict[str, Any] = {"arrivals_per_second": result["arrivals"], "memory_mb": memory}
    for phase in _PHASES:
        counts = result[phase]
        for times in ("refusal_ms", "first_chunk_ms"):
            values = counts.pop(times)
            for share in (0.5, 0.99):
                known = percentile(values, share) if len(values) > 1 else None
                counts[f"{times}_p{share * 100:.0f}"] = known
        figures[phase] = {**counts, "served_per_second": counts["served"] / counts["seconds"]}
    rates = [figures[phase]["served_per_second"] for phase in _PHASES]
    return {**figures, "goodput": rates[1] / rates[0]}


def _report(figures: Mapping[str, Any], out: Path) -> None:
    capacity, overload = (figures[phase] for phase in _PHASES)
    print(
        f"capacity: {capacity['served_per_second']:.1f} requests/s; "
        f"then {figures['arrivals_per_second']:.0f} arrive each second\n"
        f"served: {overload['served']}, {overload['served_per_second']:.1f}/s, "
        f"{figures['goodput']:.1%} of capacity\n"
        f"refused: {overload['refused']}, of them without Retry-After: "
        f"{overload['refused_without_retry_after']}; "
        f"not sent: {overload['not_sent']}; unexpected: {overload['unexpected']}\n"
        f"a refusal takes {overload['refusal_ms_p50']:.1f} ms (median), "
        f"{overload['refusal_ms_p99']:.1f} ms (p99); "
        f"a first chunk {overload['first_chunk_ms_p50']:.0f} ms (median)"
    )
    before, after = (figures["memory_mb"][phase] for phase in _PHASES)
    for service in after:
        print(
            f"{service}: {before[service]:.0f} MB at capacity, {after[service]:.0f} MB overloaded"
        )
    out.mkdir(parents=True, exist_ok=True)
    (out / "overload.json").write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    print(f"written: {out}/overload.json")


def main() -> int:
    """Measure and report; 1 when anything but an answer or a refusal with Retry-After was seen."""
    arguments = _arguments()
    with tempfile.TemporaryDirectory() as folder:
        figures = _measure(arguments, Path(folder))
    _report(figures, arguments.out)
    overload = figures["overload"]
    return 1 if overload["unexpected"] or overload["refused_without_retry_after"] else 0


if __name__ == "__main__":
    sys.exit(main())

"""Measure what tracing costs: CPU of a request over edge, tokenizer and worker, and loop lag.

Three sets of services run side by side as real processes with the paced engine: tracing off, on
with nothing sampled, on with everything sampled and sent to a collector that throws it away. In
every round each gets the same requests in turn; its CPU time counts until its next turn, so that
what it sends later is its own. A cost is a median over the rounds of differences within a round.
Exit code 1 where a bound is broken.
"""

import argparse
import asyncio
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.services import Services, running_services
from bench.streaming.cpu import cpu_seconds
from bench.streaming.stack import await_listening, free_port, process
from bench.tracing.figures import Figures, lag_below, read_figures
from bench.tracing.load import Arrivals, run

SERVICES = ("edge", "tokenizer", "worker")
OFF, NONE, ALL = "off", "0 %", "100 %"
MOST_MS = {NONE: 0.1, ALL: 1.5}
"""Bounds of the cost of a request over all services, in milliseconds of CPU."""
MOST_LAG_MS = 10.0
MIN_SPANS = 7
"""Spans of a request, over all services."""
_REFRESH_SECONDS = 1.5
"""The health port's figures are at most about a second old."""


@dataclass(frozen=True)
class Running:
    """One set of services, and the health port of each."""

    services: Services
    health_ports: dict[str, int]

    def cpu(self) -> dict[str, float]:
        """CPU seconds so far, by service."""
        return {name: cpu_seconds(self.services.pids[name]) for name in SERVICES}

    def figures(self) -> dict[str, Figures]:
        """What the services say of themselves."""
        return {name: read_figures(port) for name, port in self.health_ports.items()}


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench.tracing",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--rounds", type=int, default=30, help="default: %(default)s")
    parser.add_argument("--requests", type=int, default=100, help="of each set and round (100)")
    parser.add_argument("--rate", type=float, default=55.0, help="requests a second in all (55)")
    parser.add_argument("--tokens", type=int, default=16, help="of an answer (16)")
    parser.add_argument("--lag-seconds", type=float, default=20.0, help="that lag is watched (20)")
    parser.add_argument("--model", default="SmolLM2-135M-Instruct", help="whose tokenizer")
    parser.add_argument("--out", type=Path, default=Path("bench/results"), help="folder to write")
    return parser.parse_args()


@contextmanager
def _running(model: str, ratio: float | None, sink_port: int, folder: Path) -> Iterator[Running]:
    """One set of services; `ratio` None switches tracing off."""
    folder.mkdir()
    ports = {name: free_port() for name in SERVICES}
    tables: dict[str, dict[str, str | int | float | bool | list[str]]] = {
        "worker": {"engine": "paced"},
        "worker.paced": {"tokens_per_second": 200.0},
    }
    for name, port in ports.items():
        tables[f"{name}.telemetry.health"] = {"port": port}
        if ratio is not None:
            endpoint = f"http://127.0.0.1:{sink_port}"
            tables[f"{name}.telemetry.tracing"] = {"endpoint": endpoint, "sample_ratio": ratio}
    with running_services(model, tables, folder) as services:
        yield Running(services, ports)


@contextmanager
def _sets(model: str) -> Iterator[dict[str, Running]]:
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder, sink_port = Path(name), free_port()
        stack.enter_context(
            process(["-m", "bench.tracing.sink", str(sink_port)], folder / "sink.log")
        )
        await_listening(sink_port, folder)
        ratios = {OFF: None, NONE: 0.0, ALL: 1.0}
        yield {
            mode: stack.enter_context(_running(model, ratio, sink_port, folder / f"set-{number}"))
            for number, (mode, ratio) in enumerate(ratios.items())
        }


def _load(arguments: argparse.Namespace, sets: Sequence[Running], requests: int) -> None:
    """So many requests to all sets together, in turn."""
    ports = [running.services.edge_port for running in sets]
    arrivals = Arrivals(ports, arguments.model, requests, arguments.rate, arguments.tokens)
    asyncio.run(run(arrivals))


def _rounds(
    arguments: argparse.Namespace, sets: dict[str, Running]
) -> dict[str, list[dict[str, float]]]:
    """Milliseconds of CPU of a request: by mode, round and service; after a round of warming up."""
    used: dict[str, list[dict[str, float]]] = {mode: [] for mode in sets}
    for number in range(arguments.rounds + 1):
        before = {mode: running.cpu() for mode, running in sets.items()}
        _load(arguments, list(sets.values()), len(sets) * arguments.requests)
        for mode, running in sets.items():
            now = running.cpu()
            shares = {
                name: 1e3 * (now[name] - before[mode][name]) / arguments.requests
                for name in SERVICES
            }
            if number:
                used[mode].append(shares)
        print(f"round {number} of {arguments.rounds}", file=sys.stderr, flush=True)
    return used


def _watch_lag(arguments: argparse.Namespace, running: Running) -> dict[str, float]:
    """Milliseconds below which 99 % of each loop's lags were under a steady load, by service."""
    time.sleep(_REFRESH_SECONDS)
    before = running.figures()
    requests = round(arguments.lag_seconds * arguments.rate)
    _load(arguments, [running], requests)
    time.sleep(_REFRESH_SECONDS)
    after = running.figures()
    return {name: 1e3 * lag_below(before[name], after[name], 0.99) for name in SERVICES}


def _costs(used: dict[str, list[dict[str, float]]], mode: str) -> list[float]:
    """What tracing adds to a request, round by round, over all services."""
    pairs = zip(used[mode], used[OFF], strict=True)
    return [sum(traced.values()) - sum(plain.values()) for traced, plain in pairs]


def _print_table(
    used: dict[str, list[dict[str, float]]], lags: dict[str, dict[str, float]]
) -> None:
    print(f"{'tracing':<9}{'edge ms':>9}{'tok ms':>9}{'worker ms':>11}{'sum ms':>9}  ", end="")
    print(f"{'adds ms':>8}{'quartiles':>16}   lag p99 below, ms")
    for mode, rounds in used.items():
        cells = [statistics.median(one[name] for one in rounds) for name in SERVICES]
        total = statistics.median(sum(one.values()) for one in rounds)
        print(f"{mode:<9}{cells[0]:>9.3f}{cells[1]:>9.3f}{cells[2]:>11.3f}{total:>9.3f}  ", end="")
        low, middle, high = statistics.quantiles(_costs(used, mode), n=4)
        shown = f"{low:.3f} … {high:.3f}"
        lag = ", ".join(f"{name} {value:g}" for name, value in lags[mode].items())
        print(f"{middle:>8.3f}{shown:>16}   {lag}")


def _verdicts(
    used: dict[str, list[dict[str, float]]],
    lags: dict[str, dict[str, float]],
    spans: float,
    dropped: float,
) -> Iterator[tuple[bool, str]]:
    for mode, most in MOST_MS.items():
        cost = statistics.median(_costs(used, mode))
        text = f"tracing {mode}: {cost:.3f} ms of CPU a request, at most {most:g}"
        yield cost <= most, text
    lag = max(lags[ALL].values())
    text = f"loop lag with tracing {ALL}: p99 below {lag:g} ms, at most {MOST_LAG_MS:g}"
    yield lag <= MOST_LAG_MS, text
    yield spans >= MIN_SPANS, f"{spans:.2f} spans a request were sent, at least {MIN_SPANS}"
    yield dropped == 0, f"{dropped:g} spans were lost, none is allowed to be"


def _report(verdicts: Sequence[tuple[bool, str]]) -> int:
    for is_kept, text in verdicts:
        print(f"{'kept  ' if is_kept else 'BROKEN'}  {text}")
    return 0 if all(is_kept for is_kept, _ in verdicts) else 1


def main() -> int:
    """Measure, print a table and the verdicts, write both; returns the exit code."""
    arguments = _arguments()
    arguments.out.mkdir(parents=True, exist_ok=True)
    with _sets(arguments.model) as sets:
        used = _rounds(arguments, sets)
        lags = {mode: _watch_lag(arguments, running) for mode, running in sets.items()}
        figures = sets[ALL].figures().values()
    requests = (arguments.rounds + 1) * arguments.requests
    requests += round(arguments.lag_seconds * arguments.rate)
    spans = sum(each.exported for each in figures) / requests
    dropped = sum(each.dropped for each in figures)
    _print_table(used, lags)
    verdicts = list(_verdicts(used, lags, spans, dropped))
    content = {"cpu_ms": used, "lag_p99_ms": lags, "spans": spans, "dropped": dropped}
    (arguments.out / "tracing.json").write_text(json.dumps(content, indent=1), encoding="utf-8")
    return _report(verdicts)


if __name__ == "__main__":
    sys.exit(main())

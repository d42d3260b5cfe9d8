"""Measure what tracing costs: CPU of a request over edge, tokenizer and worker, and loop lag.

Four sets of services run side by side as real processes with the paced engine: two with tracing
off, one on with nothing sampled, one on with everything sampled and sent to a collector that throws
it away. In every round each gets the same requests in turn; its CPU time counts until its next
turn, so that what it sends later is its own. What a set uses while nothing is asked is measured
first, told by itself, and no part of a request's cost. A cost is a median over the starts, each of
fresh processes, of medians over the rounds of differences within a round. Exit code 1 where a bound
is broken, also where the two sets without tracing differ by more than the smallest.
"""

import argparse
import asyncio
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from bench.tracing.costs import Outcome, Shares, Start, net_shares, verdicts
from bench.tracing.figures import lag_below
from bench.tracing.load import Arrivals, run
from bench.tracing.sets import ALL, OFF, RATIOS, SERVICES, Running, order_of, running_sets

_REFRESH_SECONDS = 3.0
"""Spans are sent within a second; the health port's figures are a second and a half old at most."""


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench.tracing",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--starts", type=int, default=8, help="of all services (8)")
    parser.add_argument("--rounds", type=int, default=6, help="of each start (6)")
    parser.add_argument("--requests", type=int, default=50, help="of each set and round (50)")
    parser.add_argument("--rate", type=float, default=55.0, help="requests a second in all (55)")
    parser.add_argument("--tokens", type=int, default=4, help="of an answer (4)")
    parser.add_argument("--idle-seconds", type=float, default=10.0, help="that nothing is asked")
    parser.add_argument("--lag-seconds", type=float, default=20.0, help="that lag is watched (20)")
    parser.add_argument("--model", default="SmolLM2-135M-Instruct", help="whose tokenizer")
    parser.add_argument("--out", type=Path, default=Path("bench/results"), help="folder to write")
    return parser.parse_args()


def _load(arguments: argparse.Namespace, sets: Sequence[Running], requests: int) -> None:
    """So many requests to all sets together, in turn."""
    ports = [running.services.edge_port for running in sets]
    arrivals = Arrivals(ports, arguments.model, requests, arguments.rate, arguments.tokens)
    asyncio.run(run(arrivals))


def _cpu(sets: Mapping[str, Running]) -> dict[str, Shares]:
    return {mode: running.cpu() for mode, running in sets.items()}


def _idle(arguments: argparse.Namespace, sets: Mapping[str, Running]) -> dict[str, Shares]:
    """Milliseconds of CPU a second of each set while nothing is asked."""
    time.sleep(_REFRESH_SECONDS)
    before = _cpu(sets)
    time.sleep(arguments.idle_seconds)
    now = _cpu(sets)
    return {
        mode: {
            name: 1e3 * (now[mode][name] - before[mode][name]) / arguments.idle_seconds
            for name in SERVICES
        }
        for mode in sets
    }


def _start(arguments: argparse.Namespace, sets: Mapping[str, Running]) -> Start:
    """A round of warming up, an idle while, then the rounds that count."""
    everybody = list(sets.values())
    requests = len(everybody) * arguments.requests
    _load(arguments, everybody, requests)
    idle = _idle(arguments, sets)
    rounds: dict[str, list[Shares]] = {mode: [] for mode in sets}
    for _ in range(arguments.rounds):
        before, began = _cpu(sets), time.monotonic()
        _load(arguments, everybody, requests)
        now, seconds = _cpu(sets), time.monotonic() - began
        for mode, used in rounds.items():
            used.append(
                net_shares(before[mode], now[mode], idle[mode], seconds, arguments.requests)
            )
    return Start(idle, rounds)


def _watch_lag(arguments: argparse.Namespace, running: Running) -> dict[str, float]:
    """Milliseconds below which 99 % of each loop's lags were under a steady load, by service."""
    time.sleep(_REFRESH_SECONDS)
    before = running.figures()
    requests = round(arguments.lag_seconds * arguments.rate)
    _load(arguments, [running], requests)
    time.sleep(_REFRESH_SECONDS)
    after = running.figures()
    return {name: 1e3 * lag_below(before[name], after[name], 0.99) for name in SERVICES}


def _measure(arguments: argparse.Namespace) -> Outcome:
    """All starts; the last one's services are watched for lag, and asked what they sent."""
    starts: list[Start] = []
    lags: dict[str, Shares] = {}
    spans = dropped = 0.0
    for number in range(arguments.starts):
        with (
            tempfile.TemporaryDirectory() as name,
            running_sets(arguments.model, order_of(number), Path(name)) as sets,
        ):
            starts.append(_start(arguments, sets))
            if number == arguments.starts - 1:
                lags = {mode: _watch_lag(arguments, sets[mode]) for mode in RATIOS}
                figures = sets[ALL].figures().values()
                requests = (arguments.rounds + 1) * arguments.requests
                requests += round(arguments.lag_seconds * arguments.rate)
                spans = sum(each.exported for each in figures) / requests
                dropped = sum(each.dropped for each in figures)
        print(f"start {number + 1} of {arguments.starts}", file=sys.stderr, flush=True)
    return Outcome(starts, lags, spans, dropped)


def _print_table(outcome: Outcome) -> None:
    print(f"{'tracing':<10}{'edge ms':>9}{'tok ms':>9}{'worker ms':>11}{'sum ms':>9}  ", end="")
    print(f"{'adds ms':>8}{'of starts':>16} | {'idle ms/s':>9}{'adds':>8} | lag p99 below, ms")
    for mode in RATIOS:
        rounds = [one for start in outcome.starts for one in start.rounds[mode]]
        cells = [statistics.median(one[name] for one in rounds) for name in SERVICES]
        total = statistics.median(sum(one.values()) for one in rounds)
        print(f"{mode:<10}{cells[0]:>9.3f}{cells[1]:>9.3f}{cells[2]:>11.3f}{total:>9.3f}  ", end="")
        costs = [0.0 if mode == OFF else start.cost(mode) for start in outcome.starts]
        shown = f"{min(costs):.3f} … {max(costs):.3f}"
        print(f"{statistics.median(costs):>8.3f}{shown:>16} | ", end="")
        idle = statistics.median(sum(start.idle[mode].values()) for start in outcome.starts)
        added = 0.0 if mode == OFF else outcome.idle_cost(mode)
        lag = ", ".join(f"{name} {value:g}" for name, value in outcome.lags[mode].items())
        print(f"{idle:>9.2f}{added:>8.3f} | {lag}")


def main() -> int:
    """Measure, print a table and the verdicts, write all; returns the exit code."""
    arguments = _arguments()
    arguments.out.mkdir(parents=True, exist_ok=True)
    outcome = _measure(arguments)
    _print_table(outcome)
    content = json.dumps(asdict(outcome), indent=1)
    (arguments.out / "tracing.json").write_text(content, encoding="utf-8")
    told = list(verdicts(outcome))
    for is_kept, text in told:
        print(f"{'kept  ' if is_kept else 'BROKEN'}  {text}")
    return 0 if all(is_kept for is_kept, _ in told) else 1


if __name__ == "__main__":
    sys.exit(main())

"""Measure prefix reuse of a multi-turn chat over HTTP: hit rate, and time to the first text.

Conversations share a system prompt of several hundred tokens and go on side by side, each turn
behind the answer that was really given. Every round runs the same load twice, in fresh processes
with empty caches: with `worker.openvino.prefix_cache` on, then off. Beside what `usage` says was
cached stands what the requests that had completed before it was sent allow at best: the longest
prefix in full blocks that one of them had computed, prompt or answer, at most all but one token.
Ids come from the tokenizer's Render and Encode. Times are until the first text of the stream;
the ratio is taken within a round, and its median reported.
"""

import argparse
import asyncio
import os
import platform
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

from bench.reuse.load import LoadPlan, Turn, connected
from bench.reuse.report import Round, misses, rows, table, write_json
from bench.services import running_services

_LEAST_HIT_RATE = 0.99
_MOST_OF_OFF = 0.25
_KV_CACHE_BYTES = 512 << 20


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench.reuse",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--rounds", type=int, default=3, help="default: %(default)s")
    parser.add_argument("--conversations", type=int, default=8, help="default: %(default)s")
    parser.add_argument("--turns", type=int, default=6, help="each; default: %(default)s")
    parser.add_argument(
        "--concurrency",
        type=int,
        default=8,
        help="requests at the same time, at most; 1 = nobody waits for another "
        "(default: %(default)s)",
    )
    parser.add_argument(
        "--max-tokens", type=int, default=48, help="of an answer; default: %(default)s"
    )
    parser.add_argument("--temperature", type=float, default=0.7, help="default: %(default)s")
    parser.add_argument(
        "--pause",
        type=float,
        default=12.0,
        help="seconds that a user thinks before each turn, at most: long enough that without reuse "
        "no queue forms either, short enough that turns overlap; 0 = all at once "
        "(default: %(default)s)",
    )
    parser.add_argument("--seed", type=int, default=1, help="of texts, pauses and answers")
    parser.add_argument("--model", default="SmolLM2-135M-Instruct")
    parser.add_argument("--out", type=Path, default=Path("bench/results"), help="folder to write")
    return parser.parse_args()


def _plan(arguments: argparse.Namespace) -> LoadPlan:
    return LoadPlan(
        model=arguments.model,
        conversations=arguments.conversations,
        turns=arguments.turns,
        concurrency=arguments.concurrency,
        max_tokens=arguments.max_tokens,
        temperature=arguments.temperature,
        pause_seconds=arguments.pause,
        seed=arguments.seed,
    )


def _measure(plan: LoadPlan, *, reuse: bool, title: str) -> list[Turn]:
    settings = {"prefix_cache": reuse, "kv_cache_bytes": _KV_CACHE_BYTES}
    turns: list[Turn] = []

    def on_turn(turn: Turn) -> None:
        turns.append(turn)
        total = plan.conversations * plan.turns
        if sys.stdout.isatty() or len(turns) == total:
            print(f"\r{title}: {len(turns)} of {total} requests", end="", flush=True)

    async def run() -> None:
        async with connected(plan, services) as load:
            await load.warm_up()
            await load.run(on_turn)

    with tempfile.TemporaryDirectory() as folder:
        tables = {"worker.openvino": settings}
        with running_services(plan.model, tables, Path(folder)) as services:
            asyncio.run(run())
    print()
    return turns


def main() -> None:
    """Measure round by round and report, also after Ctrl-C."""
    arguments = _arguments()
    plan = _plan(arguments)
    rounds: list[Round] = []
    try:
        for number in range(1, arguments.rounds + 1):
            title = f"round {number} of {arguments.rounds}, reuse"
            on = _measure(plan, reuse=True, title=f"{title} on")
            rounds.append(Round(on, _measure(plan, reuse=False, title=f"{title} off")))
    except KeyboardInterrupt:
        print("\ninterrupted: reporting the rounds that were completed")
    if not rounds:
        return
    total = rows(rounds)["all"]
    print(f"\n{table(rounds)}\n\n{misses(rounds)}")
    print(f"hit rate {total.hit_rate:.2%} (target: at least {_LEAST_HIT_RATE:.0%})")
    print(
        f"first text with reuse {total.ratio:.1%} of without (target: at most {_MOST_OF_OFF:.0%})"
    )
    machine: dict[str, object] = {"cpus": os.cpu_count(), "python": platform.python_version()}
    arguments.out.mkdir(parents=True, exist_ok=True)
    write_json(rounds, machine, asdict(plan), arguments.out / "reuse.json")
    print(f"written: {arguments.out}/reuse.json")


if __name__ == "__main__":
    main()

"""Send random requests to the real services, drawn from the edge's own OpenAPI document.

Edge, tokenizer and a paced worker run as processes. Requests are drawn by schemathesis, by its
rules for valid and for invalid data, from excerpts of the document; some are broken further, byte
by byte, and some go to paths that there are not. Every answer must be one that the document
describes or the error envelope: no status of 500 or above but 503 with Retry-After, no 422, nothing
slower than the deadline. Whatever model a request names answers it, with few tokens: the operator's
settings bound what is asked for.

A batch depends on the seed and its number alone: `--first-batch` goes on where another run ended,
`--case` sends one request again. Exit code 1 where anything was wrong.
"""

import argparse
import asyncio
import json
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.fuzz.run import FuzzPlan, FuzzResult, draw_apart, run_fuzz
from bench.fuzz.sending import Sender
from bench.fuzz.verdicts import Judge
from bench.services import Tables, running_services

_MODEL = "SmolLM2-135M-Instruct"
_TELL_SECONDS = 10.0
_MOST_SHOWN = 20
_BAD_LOG_LINES = ("request_crashed", "Traceback", '"level": "error"', '"level":"error"', "[error")


def _tables() -> Tables:
    return {
        'edge.aliases."*"': {"model": _MODEL, "max_tokens": 6},
        "edge.limits": {"max_outputs": 4, "max_total_top_logprobs": 40},
        "worker": {"engine": "paced"},
        "worker.paced": {"tokens_per_second": 2000},
    }


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.fuzz", description=__doc__)
    parser.add_argument("--cases", type=int, default=2000, help="requests (%(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="of all that is drawn (%(default)s)")
    parser.add_argument("--first-batch", type=int, default=0, help="where to begin (%(default)s)")
    parser.add_argument("--case", help="send one case again: batch.index, with the same --seed")
    parser.add_argument("--minutes", type=float, help="stop after so long")
    parser.add_argument("--drawers", type=int, default=2, help="drawing processes (%(default)s)")
    parser.add_argument("--concurrency", type=int, default=32, help="at once (%(default)s)")
    parser.add_argument("--deadline", type=float, default=10.0, help="seconds (%(default)s)")
    parser.add_argument("--out", type=Path, default=Path("bench/results"), help="folder to write")
    return parser.parse_args()


def _document(port: int) -> dict[str, Any]:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/openapi.json", timeout=10) as response:
        document: dict[str, Any] = json.load(response)
        return document


def _teller() -> Callable[[FuzzResult], None]:
    began = last = time.monotonic()
    num_shown = 0

    def tell(result: FuzzResult) -> None:
        nonlocal last, num_shown
        for request, problems in result.failures[num_shown:_MOST_SHOWN]:
            print("WRONG", problems, request.described(), flush=True)
        num_shown = len(result.failures)
        now = time.monotonic()
        if now - last >= _TELL_SECONDS:
            last = now
            rate = result.num_cases / (now - began)
            print(
                f"{result.num_cases} requests, {len(result.failures)} wrong, {rate:.0f}/s, "
                f"next batch {result.next_batch}",
                flush=True,
            )

    return tell


async def _run(arguments: argparse.Namespace, port: int) -> FuzzResult:
    plan = FuzzPlan(
        seed=arguments.seed,
        cases=arguments.cases,
        first_batch=arguments.first_batch,
        drawers=arguments.drawers,
        concurrency=arguments.concurrency,
        deadline_seconds=arguments.deadline,
        most_seconds=arguments.minutes and arguments.minutes * 60,
    )
    async with Sender(port, plan.concurrency, plan.deadline_seconds) as sender:
        return await run_fuzz(plan, _document(port), sender, _teller())


async def _send_again(arguments: argparse.Namespace, port: int) -> int:
    document = _document(port)
    judge = Judge(document)
    batch = int(arguments.case.partition(".")[0])
    # What is drawn depends on the modules of a process too: it must be one like those of a run.
    drawn = await draw_apart(document, arguments.seed, batch)
    requests = [request for request in drawn if request.case == arguments.case]
    async with Sender(port, 1, arguments.deadline) as sender:
        for request, answer in await sender.send_all(requests):
            print(request.described())
            print(answer)
            print("wrong:", answer if isinstance(answer, str) else judge.problems(request, answer))
    return 0 if requests else 1


def _report(result: FuzzResult, complaints: list[str], out: Path) -> None:
    print(f"{result.num_cases} requests, {len(result.distinct)} of them distinct")
    print("kinds:", dict(result.kinds.most_common()))
    print("answers:", dict(result.shapes.most_common()))
    print(f"slowest batch: {result.slowest_batch_seconds:.2f} s; next batch: {result.next_batch}")
    for complaint in complaints:
        print("log:", complaint)
    out.mkdir(parents=True, exist_ok=True)
    lines = [
        json.dumps({"problems": problems, **request.recorded()}) + "\n"
        for request, problems in result.failures
    ]
    (out / "fuzz-failures.jsonl").write_text("".join(lines), encoding="utf-8")


def _complaints(folder: Path) -> list[str]:
    """Lines of the services' logs that tell of a bug."""
    return [
        f"{file.name}: {line[:300]}"
        for file in sorted(folder.glob("*.log"))
        for line in file.read_text(encoding="utf-8", errors="replace").splitlines()
        if any(sign in line for sign in _BAD_LOG_LINES)
    ]


def main() -> int:
    """Run it and report."""
    arguments = _arguments()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with running_services(_MODEL, _tables(), folder) as services:
            if arguments.case is not None:
                return asyncio.run(_send_again(arguments, services.edge_port))
            result = asyncio.run(_run(arguments, services.edge_port))
        complaints = _complaints(folder)
    _report(result, complaints, arguments.out)
    return 1 if result.failures or complaints else 0


if __name__ == "__main__":
    sys.exit(main())

"""Load the whole stack for a long time, and check that all that was taken comes back.

Edge, tokenizer and worker with the CPU engine run as processes. Clients ask for anything: random
prompts and lengths, streams and whole answers, several outputs, penalties, stop strings; they leave
in the middle, send half a request, read slowly. Guided requests (JSON schema, regex, choice) go
straight to the worker by gRPC, some of them cancelled or with too little time. Clients wait between
requests so that little is refused; now and then all of them ask at once, and more is.

Memory, descriptors, threads and tables of each process are sampled. When the time is over, or at
Ctrl-C, the load ends and idleness is waited for. Then: nothing runs, waits or holds a block; blocks
add up; descriptors are at most 4 above the start's; memory's median over the last third is at most
1.10 of that over the first third, the first tenth of the time left out; every request ended in an
expected way. The exit code is 1 where one of these is broken. Memory is judged from 18 samples on.
"""

import argparse
import asyncio
import signal
import sys
import tempfile
from pathlib import Path

from bench.services import running_services
from bench.soak.plan import TABLES, SoakPlan
from bench.soak.report import outcome_table, progress, verdict_table, write_json
from bench.soak.run import Soak
from bench.soak.verdicts import Verdict


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench.soak",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--minutes", type=float, default=30.0, help="default: %(default)s")
    parser.add_argument("--clients", type=int, default=64, help="default: %(default)s")
    parser.add_argument(
        "--rate",
        type=float,
        default=2.0,
        help="requests a second of all clients together, bursts apart (default: %(default)s)",
    )
    parser.add_argument(
        "--burst-every", type=float, default=120.0, help="seconds (default: %(default)s)"
    )
    parser.add_argument(
        "--sample-every", type=float, default=10.0, help="seconds (default: %(default)s)"
    )
    parser.add_argument("--seed", type=int, default=1, help="of what is asked, and when")
    parser.add_argument("--model", default="SmolLM2-135M-Instruct")
    parser.add_argument("--out", type=Path, default=Path("bench/results"), help="folder to write")
    return parser.parse_args()


def _plan(arguments: argparse.Namespace) -> SoakPlan:
    return SoakPlan(
        model=arguments.model,
        minutes=arguments.minutes,
        clients=arguments.clients,
        rate=arguments.rate,
        burst_seconds=arguments.burst_every,
        sample_seconds=arguments.sample_every,
        seed=arguments.seed,
    )


async def _run(soak: Soak) -> list[Verdict]:
    """The first Ctrl-C ends the load, the next one everything."""
    loop = asyncio.get_running_loop()

    def end_early() -> None:
        loop.remove_signal_handler(signal.SIGINT)
        print("interrupted: ending what runs; once more to end at once", flush=True)
        soak.stop.set()

    loop.add_signal_handler(signal.SIGINT, end_early)
    return await soak.run()


def main() -> int:
    """Run, report, and say by the exit code whether all was kept."""
    arguments = _arguments()
    plan = _plan(arguments)
    try:
        with (
            tempfile.TemporaryDirectory() as folder,
            running_services(plan.model, TABLES, Path(folder)) as services,
        ):
            soak = Soak(plan, services, lambda *seen: print(progress(*seen), flush=True))
            verdicts = asyncio.run(_run(soak))
    except KeyboardInterrupt:
        print("interrupted: nothing to judge")
        return 1
    print(f"\n{outcome_table(soak.outcomes)}\n\n{verdict_table(verdicts)}")
    arguments.out.mkdir(parents=True, exist_ok=True)
    write_json(plan, soak.samples, soak.outcomes, verdicts, arguments.out / "soak.json")
    print(f"written: {arguments.out}/soak.json")
    return int(any(each.is_kept is False for each in verdicts))


if __name__ == "__main__":
    sys.exit(main())

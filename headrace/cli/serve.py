"""`headrace serve`: tokenizer, worker and edge on this machine, supervised as one."""

import asyncio
import os
import signal
import sys
import time
from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path

from headrace.cli.child import ChildSpec
from headrace.cli.engine_checks import GPU_ENGINE, check_engine, check_model, start_seconds
from headrace.cli.serve_plan import ServePlan, make_plan
from headrace.cli.supervisor import Supervisor
from headrace.cli.tables import load_models_settings
from headrace.cli.trace_view import show_traces
from headrace.models.cache import resolve_model
from headrace.models.default import DEFAULT_MODEL, prepare_default_model
from headrace.runtime.errors import StartError
from headrace.runtime.progress import Progress

_DESCRIPTION = """\
Start tokenizer, worker and edge on loopback, wait until each is healthy, print the addresses and a
curl line to paste. Ctrl-C or SIGTERM ends all in order: the edge finishes what runs, then worker
and tokenizer end; a second one ends all at once. The default model is prepared where it is missing.
"""
_EPILOG = """\
examples:
  headrace serve
  headrace serve --model ./Qwen2.5-0.5B-Instruct-ov     a directory (with a slash)
  headrace serve --workers 2 --tokenizers 2 --port 9000
  headrace serve --host 0.0.0.0 --insecure              reachable from elsewhere, without keys
  headrace serve --engine tensorrt_llm --model /models/Llama-3.1-8B-Instruct
  headrace serve --trace                                where each request's time went, on stdout
"""

# make passes SIGTERM on; who signals the whole process group reaches us twice, and means once.
_SAME_SIGNAL_SECONDS = 0.5


def main(argv: list[str]) -> int:
    """Serve until stopped; returns the exit code. Raises StartError."""
    began = time.monotonic()
    arguments = parse_arguments(argv)
    progress = Progress()
    # Everything that can be refused is refused before the model is fetched.
    plan = make_plan(arguments)
    check_engine(plan.engine, plan.model, arguments.workers)
    model = _model_folder(plan.model, arguments.config, progress)
    check_model(plan.engine, model)
    specs = plan.child_specs(model)
    return asyncio.run(_supervise(specs, plan, model.name, began, progress))


def parse_arguments(argv: list[str]) -> Namespace:
    """Read the flags; what is not given is None. Ends the process with 2 for wrong ones."""
    parser = ArgumentParser(
        prog="headrace serve",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--config", type=Path, metavar="FILE", help="TOML file with the services' settings")
    add("--model", help=f"folder or name in the cache (default: {DEFAULT_MODEL.name})")
    add(
        "--engine",
        choices=("openvino", "paced", GPU_ENGINE),
        help="openvino: CPU; tensorrt_llm: GPUs, with --model; paced: a double (default: openvino)",
    )
    add("--workers", type=_count, default=1, metavar="N", help="(default: 1)")
    add("--tokenizers", type=_count, default=1, metavar="N", help="(default: 1)")
    add("--host", help="address of the edge (default: 127.0.0.1); the others stay on loopback")
    add("--port", type=_port, help="port of the edge (default: 8000; 0: any free one)")
    add("--tokenizer-port", type=_port, metavar="PORT", help="of the first (default: 50052)")
    add("--worker-port", type=_port, metavar="PORT", help="of the first (default: 50061)")
    add("--health-port", type=_port, metavar="PORT", help="of the edge; the others' follow (none)")
    add("--insecure", action="store_true", help="allow --host beyond loopback, without keys")
    add("--trace", action="store_true", help="print each request's spans when it has ended")
    add("--log-level", choices=("debug", "info", "warning", "error"), default="warning")
    return parser.parse_args(argv)


def _count(text: str) -> int:
    number = int(text)
    if not 1 <= number <= 64:
        raise ValueError(text)
    return number


def _port(text: str) -> int:
    number = int(text)
    if not 0 <= number <= 65535:
        raise ValueError(text)
    return number


_count.__name__, _port.__name__ = "number from 1 to 64", "port from 0 to 65535"


def _model_folder(model: str, config: Path | None, progress: Progress) -> Path:
    cache_dir = load_models_settings(config).cache_dir
    if model == DEFAULT_MODEL.name:
        return prepare_default_model(cache_dir, progress)
    return resolve_model(model, cache_dir)


async def _supervise(
    specs: Sequence[ChildSpec], plan: ServePlan, model: str, began: float, progress: Progress
) -> int:
    supervisor = Supervisor(specs, progress, start_seconds=start_seconds(plan.engine))
    stop = asyncio.Event()
    ready = asyncio.Event()
    loop = asyncio.get_running_loop()
    asked_at = 0.0

    def on_signal(number: signal.Signals) -> None:
        nonlocal asked_at
        if stop.is_set():
            if loop.time() - asked_at > _SAME_SIGNAL_SECONDS:
                supervisor.kill()
                # Nothing is left to wait for: every child has been killed.
                os._exit(128 + number)
            return
        asked_at = loop.time()
        progress.say(f"{number.name}: ending in order; once more to end at once")
        stop.set()

    def on_ready() -> None:
        ready.set()
        sys.stdout.write(plan.greeting(model, time.monotonic() - began))
        sys.stdout.flush()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, on_signal, number)
    async with AsyncExitStack() as around:
        if plan.trace_port is not None:
            await around.enter_async_context(show_traces(plan.trace_port))
        try:
            await supervisor.run(stop, on_ready)
        except StartError:
            # The supervisor has shown the sentence when it happened.
            return 1
    return 0 if ready.is_set() else 1

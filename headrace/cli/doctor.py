"""`headrace doctor`: whether this machine can serve with TensorRT-LLM, and what to do if not.

Findings are printed as they are made. Nothing of the library is loaded into this process, every
probe has a deadline, and children end with the command, however it ends.
"""

import json
import sys
from argparse import ArgumentParser, ArgumentTypeError, Namespace, RawDescriptionHelpFormatter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from headrace.cli.tables import load_models_settings, load_settings
from headrace.doctor.children import ask_program
from headrace.doctor.examination import Examination
from headrace.doctor.finding import Finding, fail, has_failed, ok, skip, warn
from headrace.doctor.host import Places
from headrace.doctor.smoke import judge_smoke
from headrace.models.cache import resolve_model
from headrace.runtime.errors import StartError
from headrace.runtime.progress import Progress
from worker.engine.tensorrt_llm.adapters import read_adapters
from worker.engine.tensorrt_llm.honoured import honoured_fields
from worker.engine.tensorrt_llm.settings import TensorRtLlmSettings
from worker.request_mapping import OPTIONAL_FIELDS
from worker.settings import WorkerSettings

_DESCRIPTION = """\
Examines whether this machine can serve with TensorRT-LLM: GPUs and driver, CUDA, MPI, torch and
TensorRT-LLM, Python, memory, shared memory and limits, what of a request this build honours with
your settings, and with --model whether the model fits and answers one request.

One line a finding: ok; warn, it may not serve well; FAIL, it will not serve; skip, not looked at.
Under whatever is wrong stands its remedy. Exit code 0 where nothing failed, 1 where something did
or there is no GPU. Nothing on the machine is changed.
"""
_EPILOG = """\
examples:
  headrace doctor                                        the machine alone
  headrace doctor --model ./Llama-3.1-8B-Instruct        and one request to this model
  headrace doctor --config headrace.toml --model llama   with the settings of [worker.tensorrt_llm]
  headrace doctor --json | jq '.findings[] | select(.verdict == "fail")'

In a container run it inside the worker's, with the flags that the worker gets: what it finds of
GPUs, shared memory and limits is the container's. A worker that holds the GPUs must end first.
"""
_SMOKE_SECONDS = 900.0
_SMOKE_TOKENS = 32


def main(argv: list[str], places: Places | None = None) -> int:
    """Run `headrace doctor`; returns the exit code. Raises StartError: bad settings, no such model.

    `places` is where the system shows itself, for tests.
    """
    arguments = _parser().parse_args(argv)
    worker = load_settings("worker", WorkerSettings, arguments.config)
    settings = worker.tensorrt_llm
    world_size = settings.tensor_parallel * settings.pipeline_parallel
    examination = Examination(
        world_size=world_size,
        local_gpus=min(world_size, settings.gpus_per_node or world_size),
        model=_model_folder(arguments),
        places=places or Places(),
        announce=_announce,
    )
    examination.find_gpus()
    problem = examination.gpus.problem
    findings = _findings(examination, worker, arguments)
    if arguments.json:
        return _write_json(list(findings), problem)
    return _write_lines(findings, problem)


def _announce(what: str) -> None:
    sys.stderr.write(f"{what} …\n")
    sys.stderr.flush()


def _parser() -> ArgumentParser:
    parser = ArgumentParser(
        prog="headrace doctor",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--model", metavar="MODEL", help="a folder (with a slash) or a name in the cache folder")
    add("--config", type=Path, metavar="FILE", help="the settings file")
    add("--cache-dir", type=Path, metavar="FOLDER", help="the cache folder of models")
    add("--json", action="store_true", help="one JSON object at the end, for programs")
    add("--log", type=Path, metavar="FILE", help="keep what the engine writes in the smoke test")
    add(
        "--smoke-seconds",
        type=_seconds,
        default=_SMOKE_SECONDS,
        metavar="N",
        help="how long loading and the request may take (default: %(default)g)",
    )
    return parser


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 1 <= seconds <= 86400:
        raise ArgumentTypeError(f"{text!r} is not a number of seconds from 1 to 86400")
    return seconds


def _model_folder(arguments: Namespace) -> Path | None:
    if arguments.model is None:
        return None
    cache_dir = arguments.cache_dir or load_models_settings(arguments.config).cache_dir
    return resolve_model(arguments.model, cache_dir)


def _findings(
    examination: Examination, worker: WorkerSettings, arguments: Namespace
) -> Iterator[Finding]:
    found = []
    for finding in examination.examine():
        found.append(finding)
        yield finding
    for finding in judge_adapters(worker.tensorrt_llm, _served_name(examination, worker)):
        found.append(finding)
        yield finding
    if examination.library is not None:
        has_torch = examination.torch is not None
        yield from judge_honoured(worker.tensorrt_llm, examination.library, has_torch=has_torch)
    yield _smoke(examination, worker, arguments, found)


def _served_name(examination: Examination, worker: WorkerSettings) -> str:
    return Path(worker.model).name if examination.model is None else examination.model.name


def judge_adapters(settings: TensorRtLlmSettings, model: str) -> Iterator[Finding]:
    """Whether the LoRA adapters of the settings can be served beside a model of that name."""
    if not settings.lora_adapters:
        return
    try:
        adapters = read_adapters(settings, model)
    except StartError as error:
        remedy = (
            "a folder holds what PEFT writes, adapter_config.json and adapter_model.safetensors, "
            "and is mounted where the worker runs; bounds are those of [worker.tensorrt_llm.lora]"
        )
        yield fail("adapters", str(error), remedy)
    else:
        yield ok("adapters", ", ".join(one.name for one in adapters))


def judge_honoured(
    settings: TensorRtLlmSettings, library: Mapping[str, Any], *, has_torch: bool
) -> Iterator[Finding]:
    """What of a request is honoured by this build with these settings, and what is refused."""
    keywords = frozenset(library["keywords"])
    honoured = honoured_fields(settings, keywords, has_torch=has_torch)
    yield ok("honours", ", ".join(name for name in OPTIONAL_FIELDS if name in honoured))
    refused = [name for name in OPTIONAL_FIELDS if name not in honoured]
    if refused:
        yield warn(
            "refuses",
            ", ".join(refused),
            'penalties, seed and min_p need [worker.tensorrt_llm] sampler = "TRTLLMSampler", '
            "guides a guided_decoding_backend (grammars llguidance, structural tags xgrammar); "
            "requests that use the others are refused by name",
        )


def _smoke(
    examination: Examination,
    worker: WorkerSettings,
    arguments: Namespace,
    found: list[Finding],
) -> Finding:
    name = "smoke test"
    if examination.model is None:
        return skip(name, "no model was given: --model")
    if has_failed(found):
        return skip(name, "something that it needs has failed above")
    if examination.local_gpus < examination.world_size:
        return skip(name, "the settings span several machines: start the worker on all of them")
    settings = worker.model_copy(update={"engine": "tensorrt_llm"})
    program = [settings.model_dump_json(), str(examination.model), str(_SMOKE_TOKENS)]
    progress = Progress()
    progress.begin(f"smoke test: {examination.model.name} is loaded, which may take minutes")
    try:
        answer = ask_program(
            "headrace.cli.doctor_smoke",
            program,
            arguments.smoke_seconds,
            progress.tick,
            arguments.log,
        )
    except OSError as error:
        return fail(name, f"{error.filename}: {error.strerror}", "name another file for --log")
    progress.end()
    return judge_smoke(answer, _SMOKE_TOKENS)


def _write_lines(findings: Iterator[Finding], problem: str) -> int:
    if problem:
        sys.stdout.write(f"no NVIDIA GPU found: {problem}\n")
    found = []
    for finding in findings:
        found.append(finding)
        sys.stdout.write(finding.render())
        sys.stdout.flush()
    failures = sum(finding.verdict == "fail" for finding in found)
    warnings = sum(finding.verdict == "warn" for finding in found)
    sys.stdout.write(f"\n{_count(failures, 'failure')}, {_count(warnings, 'warning')}\n")
    return 1 if failures else 0


def _write_json(findings: list[Finding], problem: str) -> int:
    failed = has_failed(findings)
    document = {
        "ok": not failed,
        "has_gpu": not problem,
        "findings": [finding.as_json() for finding in findings],
    }
    sys.stdout.write(json.dumps(document, indent=2) + "\n")
    return 1 if failed else 0


def _count(number: int, noun: str) -> str:
    return f"{number or 'no'} {noun}{'' if number == 1 else 's'}"

"""Measure prefill and decode of the openvino engine beside OpenVINO GenAI's, and gaps.

Every engine gets every load in every round, one after another, in an order that turns; ratios are
taken within a round and their medians reported. CPU time tells engines apart where others use the
machine as well. All sample with temperature 0.7 and top_p 0.9, keep
1 GiB of KV cache in OpenVINO's default precision, and are given prompts that no cache knows.
"""

import argparse
import asyncio
import json
import os
import platform
import random
import statistics
import tempfile
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass
from pathlib import Path

from bench.engine.gaps import Gaps, measure_gaps
from bench.engine.genai import GenAi
from bench.engine.load import Engine, Load
from bench.engine.ours import InProcess, in_process, through_grpc
from bench.engine.over_http import over_http
from headrace.models.cache import resolve_model
from headrace.models.directory import open_model_directory
from headrace.models.settings import ModelsSettings
from worker.engine.openvino.settings import OpenVinoSettings

_SEQUENCES = (1, 8, 32)
_PROMPT_TOKENS = 512
_NEW_TOKENS = {1: 96, 8: 96, 32: 64}
_REFERENCE = GenAi.name
_OWN_REFERENCE = InProcess.name


@dataclass(frozen=True)
class Sample:
    """One engine under one load in one round: tokens a second, and milliseconds of CPU a token."""

    engine: str
    sequences: int
    prefill: float
    decode: float
    prefill_cpu_ms: float
    decode_cpu_ms: float


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.engine", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="default: %(default)s")
    parser.add_argument("--prompts", type=int, default=8, help="long ones, for the gaps")
    parser.add_argument("--model", default="SmolLM2-135M-Instruct")
    parser.add_argument("--out", type=Path, default=Path("bench/results"), help="folder to write")
    return parser.parse_args()


async def _sample(engine: Engine, sequences: int, chance: random.Random) -> Sample:
    prefill = Load(sequences, _PROMPT_TOKENS, 1)
    decode = Load(sequences, 32, _NEW_TOKENS[sequences])
    cpu = [engine.cpu_seconds()]
    read = await engine.run(prefill.prompts(chance), prefill.new_tokens)
    cpu.append(engine.cpu_seconds())
    written = await engine.run(decode.prompts(chance), decode.new_tokens)
    cpu.append(engine.cpu_seconds())
    fed = read.prompt_tokens or sequences * _PROMPT_TOKENS
    return Sample(
        engine.name,
        sequences,
        fed / read.prefill_seconds,
        written.decode_rate,
        1000 * (cpu[1] - cpu[0]) / fed,
        1000 * (cpu[2] - cpu[1]) / (sequences * decode.new_tokens),
    )


async def _measure(arguments: argparse.Namespace) -> tuple[list[list[Sample]], Gaps]:
    directory = open_model_directory(resolve_model(arguments.model, ModelsSettings().cache_dir))
    settings = OpenVinoSettings(kv_cache_bytes=1 << 30)
    chance = random.Random(1)
    rounds = []
    with tempfile.TemporaryDirectory() as folder:
        async with AsyncExitStack() as stack:
            worker = await stack.enter_async_context(
                through_grpc(arguments.model, settings, Path(folder))
            )
            front = over_http(directory, arguments.model, worker, Path(folder))
            engines: list[Engine] = [
                worker,
                await stack.enter_async_context(front),
                await stack.enter_async_context(in_process(directory, settings)),
                GenAi(directory, settings),
            ]
            for engine in engines:  # kernels are prepared at their first use
                await _sample(engine, 8, chance)
            gaps = await measure_gaps(worker, arguments.prompts, chance)
            for number in range(arguments.rounds):
                engines = engines[1:] + engines[:1]
                samples = [
                    await _sample(engine, sequences, chance)
                    for sequences in _SEQUENCES
                    for engine in engines
                ]
                rounds.append(samples)
                print(f"round {number + 1} of {arguments.rounds} done", flush=True)
    return rounds, gaps


def _rate(samples: list[Sample], engine: str, sequences: int, phase: str) -> float:
    rates: list[float] = [
        getattr(sample, phase)
        for sample in samples
        if (sample.engine, sample.sequences) == (engine, sequences)
    ]
    return rates[0]


def _median_ratio(own: list[float], other: list[float]) -> float:
    return statistics.median(a / b for a, b in zip(own, other, strict=True))


def _row(rounds: list[list[Sample]], engine: str, sequences: int) -> dict[str, float]:
    row = {}
    for phase in ("prefill", "decode", "prefill_cpu_ms", "decode_cpu_ms"):
        own = [_rate(samples, engine, sequences, phase) for samples in rounds]
        other = [_rate(samples, _REFERENCE, sequences, phase) for samples in rounds]
        row[phase] = statistics.median(own)
        row[f"{phase}_ratio"] = _median_ratio(own, other)
        ours = [_rate(samples, _OWN_REFERENCE, sequences, phase) for samples in rounds]
        row[f"{phase}_of_in_process"] = _median_ratio(own, ours)
    return row


def _report(rounds: list[list[Sample]], gaps: Gaps, out: Path) -> None:
    names = list(dict.fromkeys(sample.engine for sample in rounds[0]))
    rows = {
        f"{engine}, {sequences}": _row(rounds, engine, sequences)
        for sequences in _SEQUENCES
        for engine in sorted(names)
    }
    print(
        "\n| engine, sequences | prefill tokens/s | of GenAI's | of in process "
        "| decode tokens/s | of GenAI's | of in process "
        "| CPU ms a token, prefill | of GenAI's | decode | of GenAI's |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|---|")
    for name, row in rows.items():
        print(
            f"| {name} | {row['prefill']:.0f} | {row['prefill_ratio']:.2f} "
            f"| {row['prefill_of_in_process']:.2f} "
            f"| {row['decode']:.0f} | {row['decode_ratio']:.2f} "
            f"| {row['decode_of_in_process']:.2f} "
            f"| {row['prefill_cpu_ms']:.2f} | {row['prefill_cpu_ms_ratio']:.2f} "
            f"| {row['decode_cpu_ms']:.2f} | {row['decode_cpu_ms_ratio']:.2f} |"
        )
    print(
        f"\n8 decode while {gaps.prompts} prompts of 2,000 tokens arrive: gaps of "
        f"{gaps.median_ms:.0f} ms (median), {gaps.p99_ms:.0f} ms (p99), {gaps.max_ms:.0f} ms "
        f"(longest); a prompt's first token after {gaps.first_token_ms:.0f} ms (median)"
    )
    document = {
        "machine": {"cpus": os.cpu_count(), "python": platform.python_version()},
        "medians": rows,
        "gaps": asdict(gaps),
        "rounds": [[asdict(sample) for sample in samples] for samples in rounds],
    }
    out.mkdir(parents=True, exist_ok=True)
    (out / "engine.json").write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    print(f"written: {out}/engine.json")


def main() -> None:
    """Measure and report."""
    arguments = _arguments()
    rounds, gaps = asyncio.run(_measure(arguments))
    _report(rounds, gaps, arguments.out)


if __name__ == "__main__":
    main()

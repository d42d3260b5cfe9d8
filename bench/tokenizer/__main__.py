"""Measure the tokenizer service: CPU time of a decoded token, long texts, lag of the loop.

Decoding is measured in process; encoding through gRPC on loopback, in this process. Figures are
medians over the rounds, lags the worst of all rounds.
"""

import argparse
import asyncio
import json
import os
import platform
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

import uvloop

from bench.tokenizer import decoding
from bench.tokenizer.decoding import DecodingSample
from bench.tokenizer.encoding import (
    TEXTS,
    EncodingSample,
    FairnessSample,
    measure_fairness,
    measure_text,
    running_service,
)

_MAX_REQUEST_BYTES = 15_000_000
_DECODED_TOKENS = (2_000, 20_000, 200_000)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench.tokenizer",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--rounds", type=int, default=5, help="default: %(default)s")
    parser.add_argument(
        "--characters", type=int, nargs="+", default=[500_000], help="default: %(default)s"
    )
    parser.add_argument("--model", default="SmolLM2-135M-Instruct", help="whose tokenizer")
    parser.add_argument("--out", type=Path, default=Path("bench/results"), help="folder to write")
    return parser.parse_args()


def _measure_decoding(rounds: int) -> list[DecodingSample]:
    measured = [decoding.measure(_DECODED_TOKENS) for _ in range(rounds)]
    medians = []
    for of_one in zip(*measured, strict=True):
        cost = statistics.median(sample.us_per_token for sample in of_one)
        first = of_one[0]
        medians.append(DecodingSample(first.family, first.state, first.tokens, cost))
    return medians


def _print_decoding(samples: Sequence[DecodingSample]) -> None:
    lengths = "".join(f"{length:>10,}" for length in _DECODED_TOKENS)
    print(f"{'decoding, us a token':48}{lengths}")
    for at in range(0, len(samples), len(_DECODED_TOKENS)):
        row = samples[at : at + len(_DECODED_TOKENS)]
        costs = "".join(f"{sample.us_per_token:10.2f}" for sample in row)
        print(f"{row[0].family + ', ' + row[0].state:48}{costs}")


def _encodings(lengths: Sequence[int]) -> Iterator[tuple[int, str, str]]:
    """Characters, call and text of each point, as far as messages may be so large."""
    for characters in lengths:
        for call in ("CountTokens", "Encode"):
            for text, pattern in TEXTS.items():
                wide = characters * len(pattern.encode()) / len(pattern)
                if wide < _MAX_REQUEST_BYTES and (call == "CountTokens" or characters <= 500_000):
                    yield characters, call, text


async def _measure_encoding(
    arguments: argparse.Namespace,
) -> tuple[list[EncodingSample], list[FairnessSample]]:
    samples, fairness = [], []
    print(f"{'encoding':38}{'tokens':>10}{'Mchar/s':>9}  lag ms: p50    p99    max   peak MB")
    async with running_service(arguments.model) as stub:
        for characters, call, text in _encodings(arguments.characters):
            rounds = [
                await measure_text(stub, call, text, characters) for _ in range(arguments.rounds)
            ]
            samples.extend(rounds)
            _print_encoding(rounds)
        for long_texts in (0, 4):
            fairness.append(await measure_fairness(stub, long_texts))
            _print_fairness(fairness[-1])
    return samples, fairness


def _print_encoding(rounds: Sequence[EncodingSample]) -> None:
    first = rounds[0]
    rate = statistics.median(sample.characters / sample.seconds for sample in rounds) / 1e6
    median = statistics.median(sample.lag_p50_ms for sample in rounds)
    name = f"{first.call} {first.characters:,} {first.text}"
    print(
        f"{name:38}{first.tokens:>10,}{rate:9.2f}  {median:11.1f}"
        f"{max(sample.lag_p99_ms for sample in rounds):7.1f}"
        f"{max(sample.lag_max_ms for sample in rounds):7.1f}"
        f"{max(sample.peak_rss_mb for sample in rounds):10.0f}",
        flush=True,
    )


def _print_fairness(sample: FairnessSample) -> None:
    print(
        f"{sample.renders} short renders beside {sample.long_texts} long texts: "
        f"p50 {sample.p50_ms:.1f} ms, p99 {sample.p99_ms:.1f} ms, max {sample.max_ms:.1f} ms",
        flush=True,
    )


def main() -> None:
    """Measure, print and write bench/results/tokenizer.json."""
    arguments = _arguments()
    arguments.out.mkdir(parents=True, exist_ok=True)
    decoded = _measure_decoding(arguments.rounds)
    _print_decoding(decoded)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        encoded, fairness = runner.run(_measure_encoding(arguments))
    document = {
        "machine": {"cpus": os.cpu_count(), "python": platform.python_version()},
        "decoding": [asdict(sample) for sample in decoded],
        "encoding": [asdict(sample) for sample in encoded],
        "fairness": [asdict(sample) for sample in fairness],
    }
    file = arguments.out / "tokenizer.json"
    file.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    print(f"written: {file}")


if __name__ == "__main__":
    main()

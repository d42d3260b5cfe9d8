"""Measure the CPU cost of a streamed token of each service, interleaved with the floor.

Every point is measured in every round, the floor right before the services, in fresh processes;
ratios are taken within a round and their medians reported. The paced engine stands in for a model,
so that nothing but streaming is measured.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from bench.streaming.load import LoadPlan, LoadResult
from bench.streaming.report import Sample, table, write_json, write_picture
from bench.streaming.stack import await_listening, free_port, process, running_stack

# About what the edge writes for one token, framing included; the ids are as long as real ones.
_CHUNK = (
    b'data: {"id":"chatcmpl-0123456789abcdef0123456789abcdef","object":"chat.completion.chunk",'
    b'"created":1748995200,"model":"%b","service_tier":"default",'
    b'"system_fingerprint":"fp_paced_01234567","choices":[{"index":0,"delta":{"content":" hello"},'
    b'"logprobs":null,"finish_reason":null}]}\n\n'
)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench.streaming",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--points",
        default="1,32,256,1024,8x32",
        help="what to measure: streams on one worker, or workers x streams, each with @rate where "
        "it differs from --rate, such as 1024@25 (default: %(default)s)",
    )
    parser.add_argument("--rounds", type=int, default=5, help="default: %(default)s")
    parser.add_argument("--rate", type=float, default=50.0, help="tokens a second of each stream")
    parser.add_argument("--window", type=float, default=6.0, help="seconds that are measured")
    parser.add_argument("--settle", type=float, default=1.5, help="seconds before the window")
    parser.add_argument("--model", default="SmolLM2-135M-Instruct", help="whose tokenizer")
    parser.add_argument("--out", type=Path, default=Path("bench/results"), help="folder to write")
    return parser.parse_args()


@dataclass(frozen=True)
class Point:
    """What is measured: so many workers, so many streams over all of them, at so many tokens/s."""

    name: str
    workers: int
    streams: int
    rate: float


def _points(text: str, rate: float) -> Iterator[Point]:
    for name in text.split(","):
        size, _, own_rate = name.partition("@")
        workers, _, streams = size.rpartition("x")
        num_workers = int(workers or 1)
        yield Point(name, num_workers, num_workers * int(streams), float(own_rate or rate))


def _load(plan: LoadPlan) -> tuple[LoadResult, float]:
    """Run the load generator; returns its result and the cores that it used itself."""
    before = os.times()
    command = [sys.executable, "-m", "bench.streaming.load", json.dumps(asdict(plan))]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    after = os.times()
    result = LoadResult(**json.loads(done.stdout))
    used = after.children_user + after.children_system
    used -= before.children_user + before.children_system
    return result, used / (result.seconds + plan.settle_seconds)


def _measure_floor(
    arguments: argparse.Namespace, point: Point, folder: Path
) -> tuple[float, LoadResult]:
    chunk = _CHUNK % arguments.model.encode()
    chunk_file = folder / "chunk"
    chunk_file.write_bytes(b"%x\r\n%b\r\n" % (len(chunk), chunk))
    port = free_port()
    command = ["-m", "bench.streaming.floor", str(port), str(chunk_file), str(point.rate)]
    with process(command, folder / "floor.log") as floor:
        await_listening(port, folder)
        plan = _plan(arguments, point, port, [floor.pid])
        result, _ = _load(plan)
    return 1e6 * result.cpu_seconds[0] / result.tokens, result


def _plan(arguments: argparse.Namespace, point: Point, port: int, pids: Sequence[int]) -> LoadPlan:
    return LoadPlan(
        port=port,
        model=arguments.model,
        streams=point.streams,
        rate=point.rate,
        window_seconds=arguments.window,
        settle_seconds=arguments.settle,
        pids=tuple(pids),
    )


def _measure(arguments: argparse.Namespace, point: Point) -> Sample:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        floor_us, floor = _measure_floor(arguments, point, folder)
        with running_stack(point.workers, arguments.model, point.rate, folder) as stack:
            pids = (stack.edge, stack.tokenizer, *stack.workers)
            result, load_cores = _load(_plan(arguments, point, stack.port, pids))
    edge, tokenizer, *workers = (1e6 * cpu / result.tokens for cpu in result.cpu_seconds)
    return Sample(
        point=point.name,
        streams=point.streams,
        workers=point.workers,
        rate=point.rate,
        floor_us=floor_us,
        edge_us=edge,
        tokenizer_us=tokenizer,
        worker_us=sum(workers),
        load_cores=load_cores,
        achieved=result.achieved,
        gap_p99_ms=result.gap_p99_ms,
        gap_max_ms=result.gap_max_ms,
        floor_gap_p99_ms=floor.gap_p99_ms,
        lost_streams=result.lost_streams,
    )


def main() -> None:
    """Measure every point in every round, and write what came out, also after Ctrl-C."""
    arguments = _arguments()
    arguments.out.mkdir(parents=True, exist_ok=True)
    samples: list[Sample] = []
    try:
        for number in range(1, arguments.rounds + 1):
            for point in _points(arguments.points, arguments.rate):
                sample = _measure(arguments, point)
                samples.append(sample)
                print(
                    f"round {number} {point.name}: floor {sample.floor_us:.2f} us, edge "
                    f"{sample.floors('edge'):.2f}, tokenizer {sample.floors('tokenizer'):.2f}, "
                    f"worker {sample.floors('worker'):.2f} floors, {sample.achieved:.1%}, "
                    f"p99 gap {sample.gap_p99_ms:.1f} ms (floor's {sample.floor_gap_p99_ms:.1f}), "
                    f"load {sample.load_cores:.2f} cores",
                    flush=True,
                )
    except KeyboardInterrupt:
        print("interrupted: reporting what was measured")
    if samples:
        print(table(samples))
        machine = {"cpus": os.cpu_count(), "python": platform.python_version()}
        write_json(samples, machine, arguments.out / "streaming.json")
        write_picture(samples, arguments.out / "streaming.png")
        print(f"written: {arguments.out}/streaming.json and streaming.png")


if __name__ == "__main__":
    main()

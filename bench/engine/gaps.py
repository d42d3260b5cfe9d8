"""How long decoding outputs wait for a token while long prompts arrive, seen by a gRPC client."""

import asyncio
import random
import time
from dataclasses import dataclass

from bench.engine.load import Load, percentile
from bench.engine.ours import ThroughGrpc
from headrace.common.v1 import errors_pb2

_DECODING = Load(sequences=8, prompt_tokens=32, new_tokens=2000)
_ARRIVING = Load(sequences=1, prompt_tokens=2000, new_tokens=1)


@dataclass(frozen=True)
class Gaps:
    """Milliseconds between two tokens of an output, and until a long prompt's first token."""

    prompts: int
    median_ms: float
    p99_ms: float
    max_ms: float
    first_token_ms: float


async def measure_gaps(subject: ThroughGrpc, num_prompts: int, chance: random.Random) -> Gaps:
    """Eight outputs decode while so many prompts of 2,000 tokens come, one after another."""
    decoding = subject.begin(_DECODING.prompts(chance), _DECODING.new_tokens)
    await decoding.first.wait()
    await asyncio.sleep(1)  # all eight decode, and the engine knows its speed
    begin = time.perf_counter()
    waits = []
    for _ in range(num_prompts):
        arriving = await subject.run(_ARRIVING.prompts(chance), 1)
        waits.append(1000 * arriving.prefill_seconds)
    end = time.perf_counter()
    subject.link.abort(decoding.handles, errors_pb2.ERROR_REASON_CLIENT_CANCELLED)
    gaps = [1000 * gap for gap in decoding.timeline.gaps(begin, end)]
    return Gaps(
        prompts=num_prompts,
        median_ms=percentile(gaps, 0.5),
        p99_ms=percentile(gaps, 0.99),
        max_ms=max(gaps),
        first_token_ms=percentile([*waits, waits[-1]], 0.5),
    )

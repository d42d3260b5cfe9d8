"""Draw, send, judge: batch after batch, drawn by processes of their own."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass, field
from multiprocessing import get_context

from bench.fuzz.drawing import draw_batch
from bench.fuzz.excerpts import Document
from bench.fuzz.request import FuzzRequest
from bench.fuzz.sending import Sender
from bench.fuzz.verdicts import FuzzAnswer, Judge

_AHEAD = 3


@dataclass(frozen=True, slots=True)
class FuzzPlan:
    """How much of what; batches are counted from `first_batch` on."""

    seed: int
    cases: int
    first_batch: int = 0
    drawers: int = 2
    concurrency: int = 32
    deadline_seconds: float = 10.0
    most_seconds: float | None = None


@dataclass(slots=True)
class FuzzResult:
    """What came of it; `next_batch` is where to go on."""

    num_cases: int = 0
    next_batch: int = 0
    kinds: Counter[str] = field(default_factory=Counter)
    shapes: Counter[str] = field(default_factory=Counter)
    distinct: set[int] = field(default_factory=set)
    failures: list[tuple[FuzzRequest, list[str]]] = field(default_factory=list)
    slowest_batch_seconds: float = 0.0


async def run_fuzz(
    plan: FuzzPlan,
    document: Document,
    sender: Sender,
    tell: Callable[[FuzzResult], None] = lambda _result: None,
) -> FuzzResult:
    """Send at least so many requests, or as many as the time allows; `tell` after each batch."""
    judge = Judge(document)
    result = FuzzResult(next_batch=plan.first_batch)
    began = time.monotonic()
    async for requests in _batches(plan, document):
        started = time.monotonic()
        for request, answer in await sender.send_all(requests):
            _note(result, judge, request, answer)
        result.slowest_batch_seconds = max(result.slowest_batch_seconds, time.monotonic() - started)
        result.next_batch += 1
        tell(result)
        is_late = plan.most_seconds is not None and time.monotonic() - began > plan.most_seconds
        if result.num_cases >= plan.cases or is_late:
            break
    return result


def _note(result: FuzzResult, judge: Judge, request: FuzzRequest, answer: FuzzAnswer | str) -> None:
    result.num_cases += 1
    result.kinds[request.kind] += 1
    result.distinct.add(hash((request.method, request.target, request.headers, request.body)))
    if isinstance(answer, str):
        result.shapes["none"] += 1
        result.failures.append((request, [answer]))
        return
    result.shapes[answer.shape] += 1
    problems = judge.problems(request, answer)
    if problems:
        result.failures.append((request, problems))


async def draw_apart(document: Document, run_seed: int, batch: int) -> list[FuzzRequest]:
    """One batch, drawn in a process of its own."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return await asyncio.wrap_future(pool.submit(draw_batch, document, run_seed, batch))


async def _batches(plan: FuzzPlan, document: Document) -> AsyncIterator[Sequence[FuzzRequest]]:
    """Batches in order, a few of them drawn ahead."""
    drawn: dict[int, Future[list[FuzzRequest]]] = {}
    batch = plan.first_batch
    pool = ProcessPoolExecutor(plan.drawers, mp_context=get_context("spawn"))
    try:
        while True:
            for ahead in range(batch, batch + plan.drawers * _AHEAD):
                if ahead not in drawn:
                    drawn[ahead] = pool.submit(draw_batch, document, plan.seed, ahead)
            requests: list[FuzzRequest] = await asyncio.wrap_future(drawn.pop(batch))
            yield requests
            batch += 1
    finally:
        pool.shutdown(cancel_futures=True)

"""Statistics of any shape, from a library that may fall silent."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Any

import pytest

from worker.engine.tensorrt_llm.load import (
    BlockCounts,
    LoadReader,
    block_counts,
    paused_requests,
)

WHOLE = {"kvCacheStats": {"maxNumBlocks": 10, "freeNumBlocks": 4, "tokensPerBlock": 32}}


@pytest.mark.parametrize(
    ("statistics", "counts"),
    [
        (WHOLE, BlockCounts(10, 4, 32)),
        ({}, None),
        ({"kvCacheStats": None}, None),
        ({"kvCacheStats": {"maxNumBlocks": 10}}, None),
        ({"kvCacheStats": {"maxNumBlocks": 10, "freeNumBlocks": 4}}, BlockCounts(10, 4, 0)),
        ({"kvCacheStats": {"maxNumBlocks": 10, "freeNumBlocks": 12}}, BlockCounts(10, 10, 0)),
    ],
)
def test_every_key_is_optional(statistics: Mapping[str, Any], counts: BlockCounts | None) -> None:
    """What is told is read, and adds up."""
    assert block_counts(statistics) == counts


@pytest.mark.parametrize(
    ("batch", "count"),
    [({"numPausedRequests": 2}, 2), ({"numPausedRequests": None}, 0), ({}, 0), (None, 0), (3, 0)],
)
def test_paused_requests_are_read_where_they_are_told(batch: object, count: int) -> None:
    """What is missing or of another kind is none."""
    assert paused_requests({"inflightBatchingStats": batch}) == count


async def test_paused_requests_add_up() -> None:
    """Each iteration tells its own; requests that it pauses are counted with those before."""
    paused = {"inflightBatchingStats": {"numPausedRequests": 2}}
    reader = LoadReader(Statistics([paused, {}, paused, WHOLE]))  # type: ignore[arg-type] # only this part
    task = asyncio.create_task(reader.run())
    reader.on_response()
    await reader.first(5)
    task.cancel()

    assert reader.preemptions == 4


class Statistics:
    """The part of an LLM that gives statistics; `rounds` are what each asking gives."""

    def __init__(self, *rounds: list[Mapping[str, Any]] | Exception) -> None:
        self.rounds = list(rounds)
        self.asked = asyncio.Event()

    async def get_stats_async(self, timeout: float) -> AsyncIterator[Mapping[str, Any]]:  # noqa: ASYNC109 (the library's)
        current = self.rounds.pop(0)
        if not self.rounds:
            self.asked.set()
        if isinstance(current, Exception):
            raise current
        for item in current:
            yield item


@pytest.mark.parametrize("failure", [AssertionError("not yet"), TimeoutError(), []])
async def test_silence_is_no_end(failure: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is asked again when there was a response, and not before."""
    monkeypatch.setattr("worker.engine.tensorrt_llm.load._BACKOFF_SECONDS", 0)
    library = Statistics(failure, [WHOLE])
    reader = LoadReader(library)  # type: ignore[arg-type] # only this part is used
    task = asyncio.create_task(reader.run())
    reader.on_response()
    for _ in range(20):
        await asyncio.sleep(0)
    asked_unprompted = library.asked.is_set()
    reader.on_response()
    await reader.first(5)
    task.cancel()

    assert not asked_unprompted
    assert reader.blocks == BlockCounts(10, 4, 32)


async def test_what_cannot_be_read_ends_only_the_reading() -> None:
    """Requests need no statistics."""
    reader = LoadReader(Statistics(KeyError("iter")))  # type: ignore[arg-type] # only this part
    reader.on_response()
    await reader.run()
    await reader.first(0.01)

    assert reader.blocks == BlockCounts()

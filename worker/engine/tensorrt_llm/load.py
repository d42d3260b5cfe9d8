"""The library's own view of its load: statistics of its iterations, read for as long as it runs.

They come only while something computes and are read by one reader, which asks when there was a
response: before the first request there is nothing to ask, and some builds tell nothing more, once
they were silent, until the next request. Every key is optional.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import structlog

from worker.engine.tensorrt_llm.library import Llm

_POLL_SECONDS = 2.0
_BACKOFF_SECONDS = 0.1

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class BlockCounts:
    """Blocks of the KV cache; those kept for reuse count as free, as the library counts them."""

    total: int = 0
    free: int = 0
    tokens_per_block: int = 0


def block_counts(statistics: Mapping[str, Any]) -> BlockCounts | None:
    """From one iteration's statistics; None where they do not tell."""
    cache = statistics.get("kvCacheStats")
    if not isinstance(cache, Mapping):
        return None
    total, free = cache.get("maxNumBlocks"), cache.get("freeNumBlocks")
    size = cache.get("tokensPerBlock", 0)
    if not (isinstance(total, int) and isinstance(free, int) and isinstance(size, int)):
        return None
    return BlockCounts(total, max(min(free, total), 0), size)


def paused_requests(statistics: Mapping[str, Any]) -> int:
    """How many requests one iteration put back since blocks ran out; 0 where it does not tell.

    With the library's default policy, which evicts nothing that runs, there are none.
    """
    batch = statistics.get("inflightBatchingStats")
    paused = batch.get("numPausedRequests") if isinstance(batch, Mapping) else None
    return max(paused, 0) if isinstance(paused, int) else 0


class LoadReader:
    """Keeps the newest counts, and adds up what is told of single iterations; `run` is its task."""

    def __init__(self, llm: Llm) -> None:
        self._llm = llm
        self._first = asyncio.Event()
        self._responses = asyncio.Event()
        self.blocks = BlockCounts()
        self.preemptions = 0

    async def first(self, seconds: float) -> None:
        """Wait for the first counts, at most so long."""
        try:
            await asyncio.wait_for(self._first.wait(), seconds)
        except TimeoutError:
            _log.warning("no_iteration_statistics", waited_seconds=seconds)

    def on_response(self) -> None:
        """The library computes: there is something to read."""
        self._responses.set()

    async def run(self) -> None:
        """Read until cancelled."""
        while True:
            await self._responses.wait()
            self._responses.clear()
            try:
                # An iterator ends when nothing comes for a while; that is no end of all.
                async for statistics in self._llm.get_stats_async(_POLL_SECONDS):
                    self._keep(statistics)
            except (AssertionError, TimeoutError) as error:
                _log.debug("statistics_not_there", problem=str(error))
            except (AttributeError, KeyError, TypeError, ValueError) as error:
                # Routing can do without them, requests need none.
                _log.warning("statistics_unreadable", problem=f"{type(error).__name__}: {error}")
                return
            await asyncio.sleep(_BACKOFF_SECONDS)

    def _keep(self, statistics: Mapping[str, Any]) -> None:
        self.preemptions += paused_requests(statistics)
        counts = block_counts(statistics)
        if counts is not None:
            self.blocks = counts
            self._first.set()

"""Aborts: the answer ends at once, the library is told at its pace, and nothing stays behind."""

import asyncio

import pytest

from tests.support.event_sinks import CollectingSink
from tests.unit.worker.tensorrt_llm.engines import PROMPT, Opened, opened
from worker.engine.seam import SamplingParams


async def _running(engine: Opened, count: int) -> CollectingSink:
    """As many endless requests that the library has."""
    sink = CollectingSink()
    for key in range(count):
        engine.submit(sink, key, (*PROMPT, key), ignore_eos=True, max_tokens=3000)
    await sink.wait_until(lambda: len(sink.token_ids) == count)
    return sink


async def test_an_abort_reaches_the_library() -> None:
    """Dropping the result would not: the request would go on computing."""
    async with opened() as engine:
        sink = await _running(engine, 3)
        engine.engine.abort(sink, [0, 1, 2])
        await asyncio.to_thread(engine.machine.wait_idle)

        assert len(engine.machine.aborted_ids) == 3
        assert sink.ended == {}


@pytest.mark.parametrize("keeps", [False, True])
async def test_what_ended_by_itself_is_not_aborted(keeps: bool) -> None:
    """Whether its end token was seen or only told of."""
    async with opened({"keeps_end_id": keeps}) as engine:
        for first in range(100, 110):
            await engine.ask((first, 12, 13, 14, 15))
        engine.machine.wait_idle()

        assert engine.machine.aborted_ids == []


async def test_only_so_many_in_a_second_oldest_first() -> None:
    """The rest wait their turn; all are told in the end."""
    async with opened(max_aborts_per_second=4) as engine:
        sink = await _running(engine, 6)
        begin = asyncio.get_running_loop().time()
        engine.engine.abort(sink, list(range(6)))
        at_once = list(engine.machine.aborted_ids)
        await asyncio.to_thread(engine.machine.wait_idle)
        took = asyncio.get_running_loop().time() - begin

        ids = [request.request_id for request in engine.machine.requests[1:]]
        assert at_once == ids[:4]
        assert engine.machine.aborted_ids == ids
        assert took >= 1.0


async def test_the_kill_switch() -> None:
    """The library is never told, the client is not kept, and the place stays taken to the end."""
    async with opened(aborts=False) as engine:
        sink = CollectingSink()
        engine.submit(sink, ignore_eos=True, max_tokens=60)
        await sink.has_tokens(0)
        engine.engine.abort(sink, [0])
        heard = len(sink.token_ids[0])
        await asyncio.to_thread(engine.machine.wait_idle)

        assert engine.machine.aborted_ids == []
        assert engine.machine.generated_tokens >= 60
        assert len(sink.token_ids[0]) <= heard + 1


async def test_a_silent_end_gives_the_place_back() -> None:
    """A request that waits inside the library vanishes without a word: it is not waited for."""
    settings = {"max_batch_size": 1, "max_handed_ahead_outputs": 1, "max_queued_outputs": 4}
    async with opened(silence_after_abort_seconds=0.1, **settings) as engine:
        sink = await _running(engine, 1)
        for key in (1, 2):
            engine.submit(sink, key, max_tokens=2)
        await asyncio.to_thread(
            engine.machine.wait_until, lambda: len(engine.machine.requests) == 3
        )
        engine.engine.abort(sink, [1])
        await asyncio.to_thread(
            engine.machine.wait_until, lambda: len(engine.machine.requests) == 4
        )
        engine.engine.abort(sink, [0])
        await sink.all_ended(2)

        assert sink.ended.keys() == {2}
        assert engine.engine.load.queued_outputs == 0


async def test_an_abort_that_does_nothing_for_a_while() -> None:
    """Nobody waits for it, and what comes late is not told."""
    async with opened({"abort_ignored_iterations": 200}) as engine:
        sink = await _running(engine, 1)
        engine.engine.abort(sink, [0])
        heard = len(sink.token_ids[0])
        said = await engine.ask(max_tokens=5, ignore_eos=True)
        await asyncio.to_thread(engine.machine.wait_idle)

        assert len(said.token_ids) == 5
        assert len(sink.token_ids[0]) <= heard + 1


async def test_one_output_of_several() -> None:
    """The others go on; the library is told when nobody is left."""
    async with opened(sampler="TRTLLMSampler") as engine:
        sink = CollectingSink()
        request = engine.submit(
            sink, n=3, ignore_eos=True, max_tokens=3000, sampling=SamplingParams()
        )
        await sink.wait_until(lambda: len(sink.token_ids) == 3)
        engine.engine.abort(sink, request.keys[:2])
        count = len(sink.token_ids[2])
        await sink.has_tokens(2, count + 3)
        told_early = list(engine.machine.aborted_ids)
        engine.engine.abort(sink, request.keys[2:])
        await asyncio.to_thread(engine.machine.wait_idle)

        assert told_early == []
        assert len(engine.machine.aborted_ids) == 1

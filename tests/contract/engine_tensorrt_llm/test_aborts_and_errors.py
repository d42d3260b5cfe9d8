"""What ends early: the library answers late, once, or never, and nothing waits for it."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from headrace.common.v1.finish_pb2 import FINISH_REASON_LENGTH
from tests.support.event_sinks import CollectingSink
from tests.unit.worker.tensorrt_llm.engines import PROMPT, Fault, Opened, opened

PATIENCE_SECONDS = 3.0


async def _comes(engine: Opened, predicate: Callable[[], bool]) -> bool:
    """Whether something comes about on the machine within some seconds."""

    def wait() -> bool:
        with engine.machine.changed:
            return bool(engine.machine.changed.wait_for(predicate, PATIENCE_SECONDS))

    return await asyncio.to_thread(wait)


async def _is_idle(engine: Opened) -> bool:
    return await _comes(engine, lambda: not engine.machine.live_ids)


async def test_a_request_that_waits_inside_vanishes() -> None:
    """10: no response ever comes for it; its place is another's soon, its client hears no more."""
    settings: dict[str, Any] = {"max_batch_size": 1, "max_handed_ahead_outputs": 1}
    async with opened(silence_after_abort_seconds=0.1, **settings) as engine:
        sink = CollectingSink()
        engine.submit(sink, 0, ignore_eos=True, max_tokens=4000)
        await sink.has_tokens(0)
        engine.submit(sink, 1, (*PROMPT, 1), max_tokens=2)
        assert await _comes(engine, lambda: len(engine.machine.requests) == 3)
        engine.submit(sink, 2, (*PROMPT, 2), max_tokens=2)
        engine.engine.abort(sink, [1])
        async with asyncio.timeout(PATIENCE_SECONDS):
            await sink.wait_until(lambda: engine.engine.load.queued_outputs == 0)
            has_ended = 0 in sink.ended
            engine.engine.abort(sink, [0])
            await sink.all_ended(2)

        assert not has_ended
        assert sink.ended.keys() == {2}
        assert await _is_idle(engine)


@pytest.mark.parametrize("delay", [0, 20])
async def test_an_active_request_is_cancelled_some_steps_later(delay: int) -> None:
    """10: what still comes of it, and that it was cancelled, nobody is told."""
    async with opened({"abort_delay_iterations": delay}) as engine:
        sink = CollectingSink()
        engine.submit(sink, ignore_eos=True, max_tokens=4000)
        await sink.has_tokens(0, 3)
        engine.engine.abort(sink, [0])
        heard = len(sink.token_ids[0])
        assert await _is_idle(engine)
        assert (await engine.ask(max_tokens=2)).ended.error is None

        # What had come before the abort is told in the same turn.
        assert len(sink.token_ids[0]) <= heard + 1
        assert sink.ended == {}
        assert len(engine.machine.aborted_ids) == 1


async def test_an_abort_of_what_has_ended_is_nothing() -> None:
    """10: nobody tells the library."""
    async with opened() as engine:
        sink = CollectingSink()
        engine.submit(sink, max_tokens=2)
        await sink.all_ended(0)
        engine.engine.abort(sink, [0])
        assert await _is_idle(engine)

        assert engine.machine.aborted_ids == []


@pytest.mark.parametrize("keeps", [True, False])
async def test_to_drop_a_result_is_not_to_end_it(keeps: bool) -> None:
    """11: an abandoned request of four thousand tokens holds no place a little later."""
    async with opened({"drop_keeps_generating": keeps}) as engine:
        sink = CollectingSink()
        engine.submit(sink, ignore_eos=True, max_tokens=4000)
        await sink.has_tokens(0)
        engine.engine.abort(sink, [0])
        assert await _is_idle(engine)

        assert engine.machine.generated_tokens < 2000


async def test_what_was_ended_here_is_ended_there() -> None:
    """11: a build that forgets stops where ends are ignored would compute to the limit, unheard."""
    async with opened({"ignore_eos_drops_stop_words": True}) as engine:
        free = await engine.ask(ignore_eos=True)
        stop = frozenset({free.token_ids[9]})
        said = await engine.ask(ignore_eos=True, stop_token_ids=stop, max_tokens=4000)
        assert await _is_idle(engine)

        assert said.token_ids[-1] in stop
        assert engine.machine.generated_tokens < 2000


@pytest.mark.parametrize("step", [1, 4])
async def test_a_result_that_raised_is_not_stepped_again(step: int) -> None:
    """12: it would wait for ever, since it does not say that it has finished."""
    faults = (Fault(kind="request", request=1, step=step, message="no such luck"),)
    async with opened({"faults": faults}) as engine, asyncio.timeout(PATIENCE_SECONDS):
        failed = await engine.ask(ignore_eos=True)
        other = await engine.ask(ignore_eos=True)

    assert failed.ended.error is not None
    assert "no such luck" in failed.ended.error.message
    assert len(failed.token_ids) == step - 1
    assert other.ended.finish_reason == FINISH_REASON_LENGTH


@pytest.mark.parametrize("surfaces", ["one", "none"])
async def test_what_is_fatal_ends_all(surfaces: str) -> None:
    """12: one waiter is told and the others hang, or all hang: every answer ends nevertheless."""
    settings: dict[str, Any] = {"watchdog_seconds": 0.4}
    async with (
        opened({"fatal_surfaces": surfaces}, **settings) as engine,
        asyncio.timeout(PATIENCE_SECONDS),
    ):
        sink = CollectingSink()
        for key in range(3):
            engine.submit(sink, key, (*PROMPT, key), ignore_eos=True, max_tokens=4000)
        await sink.wait_until(lambda: len(sink.token_ids) == 3)
        engine.machine.crash("gone")
        failure = await engine.engine.failed()
        await sink.all_ended(0, 1, 2)

        assert all(ended.error is not None for ended in sink.ended.values())
        assert "TensorRT-LLM" in failure.message


async def test_a_fault_of_all_is_the_engines() -> None:
    """12: the library calls it each request's own; a canary that fails too is the proof."""
    faults = tuple(
        Fault(kind="request", request=number, message="forward pass failed") for number in (1, 2, 3)
    )
    async with opened({"faults": faults}) as engine, asyncio.timeout(PATIENCE_SECONDS):
        sink = CollectingSink()
        for key in range(2):
            engine.submit(sink, key, (*PROMPT, key), ignore_eos=True)
        await sink.all_ended(0, 1)
        failure = await engine.engine.failed()

    assert "canary" in failure.message


async def test_stops_are_ids_so_none_fails_unprocessed() -> None:
    """12: text stops beside a caller's own end token fail in the worker, so none are passed."""
    async with opened({"rejects_unprocessed_stops": True}) as engine:
        said = await engine.ask(max_tokens=3, stop_token_ids=frozenset({41, 42}))
        told = engine.machine.requests[-1].sampling_params

    assert said.ended.error is None
    assert told.stop is None
    assert {41, 42} <= set(told.stop_token_ids)

"""Behaviours 10, 11, 12, 17 and 18: aborts, dropped iterators, errors, health, shutdown."""

import asyncio
import gc
from typing import Any

import pytest

from tests.support.tensorrt_llm import importable
from tests.unit.support.tensorrt_llm.conftest import PROMPT, Opened, Opener

with importable():
    import tensorrt_llm
    from tensorrt_llm import SamplingParams
    from tensorrt_llm.double.switches import Fault
    from tensorrt_llm.executor import CppExecutorError
    from tensorrt_llm.executor.utils import RequestError

LONG = {"max_tokens": 3000}
BRIEF = 0.05
"""Seconds after which something that never comes has not come."""


async def _never(result: Any) -> bool:
    """No further step comes."""
    try:
        await asyncio.wait_for(anext(result), BRIEF)
    except TimeoutError:
        return True
    return False


async def _idle(here: Opened) -> None:
    await asyncio.to_thread(here.machine.wait_idle)


@pytest.mark.parametrize("delay", [0, 3])
async def test_behaviour_10_an_active_request_is_cancelled_later(
    opened: Opener, delay: int
) -> None:
    """So many iterations after the abort comes a last step, empty, with reason cancelled."""
    here = opened({"held": True, "abort_delay_iterations": delay})
    result = here.ask(**LONG)
    here.machine.steps(2)
    await anext(result)
    await anext(result)
    result.abort()
    result.abort()
    here.machine.steps(delay + 1)
    steps = [len(step.outputs[0].token_ids_diff) async for step in result]

    assert steps == [1] * delay + [0]
    assert (result.finished, result.aborted()) == (True, True)
    assert result.outputs[0].finish_reason == "cancelled"
    assert here.machine.live_requests == 0


@pytest.mark.parametrize("silent", [True, False])
async def test_behaviour_10_a_waiting_request_is_dropped_in_silence(
    opened: Opener, silent: bool
) -> None:
    """Nothing ever comes of it, and its place is free; switched off, it is cancelled."""
    here = opened({"queued_abort_is_silent": silent}, max_batch_size=1)
    running, waiting = here.ask(**LONG), here.ask()
    await anext(running)
    waiting.abort()
    ended = not await _never(waiting)

    assert ended != silent
    assert here.machine.live_ids == {running.request_id}
    running.abort()
    await _idle(here)


@pytest.mark.parametrize("ignored", [0, 100])
async def test_behaviour_10_aborts_may_be_ignored_for_long(opened: Opener, ignored: int) -> None:
    """For so many iterations more an abort changes nothing."""
    here = opened({"held": True, "abort_ignored_iterations": ignored})
    result = here.ask(**LONG)
    here.machine.steps(1)
    await anext(result)
    result.abort()
    here.machine.steps(ignored + 2)
    steps = [len(step.outputs[0].token_ids_diff) async for step in result]

    assert steps == [1] * (ignored + 1) + [0]


@pytest.mark.parametrize("most", [0, 20])
async def test_behaviour_10_mass_cancellation_may_wedge(opened: Opener, most: int) -> None:
    """So many aborts within a second stop the engine for good; by default none does."""
    here = opened({"aborts_until_wedged": most})
    results = [here.ask(**LONG) for _ in range(20)]
    for result in results:
        result.abort()
    other = here.ask()
    if most:
        assert await _never(other)
        assert here.machine.wedged
    else:
        assert (await other).finished
        assert here.machine.live_requests == 0


async def test_behaviour_10_a_finished_request_is_only_warned_of(opened: Opener) -> None:
    """An abort behind the end, and the end of another request."""
    here = opened()
    result = await here.ask()
    result.abort()
    other = await here.ask()

    assert other.outputs[0].finish_reason == result.outputs[0].finish_reason == "length"
    assert here.machine.aborted_ids == [result.request_id]
    assert any("not there" in warning for warning in here.machine.warnings)


@pytest.mark.parametrize("keeps", [True, False])
async def test_behaviour_11_a_dropped_iterator_keeps_generating(
    opened: Opener, keeps: bool
) -> None:
    """Break, drop and cancel the task: the engine goes on; switched off, it ends."""
    here = opened({"drop_keeps_generating": keeps}, max_seq_len=4096)
    result = here.ask(**LONG)
    await anext(result)
    task = asyncio.ensure_future(anext(result))
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    before = here.machine.generated_tokens
    del result, task
    gc.collect()
    if keeps:
        await asyncio.to_thread(
            here.machine.wait_until, lambda: here.machine.generated_tokens > before + 50
        )
        assert here.machine.live_requests == 1
    else:
        await _idle(here)
        assert here.machine.generated_tokens < 2990


@pytest.mark.parametrize("finished", [False, True])
async def test_behaviour_12_an_error_at_a_step(opened: Opener, finished: bool) -> None:
    """RequestError at the k-th step; `finished` stays False and a further step never comes."""
    fault = Fault(kind="request", step=3, request=0, message="bad")
    here = opened({"faults": (fault,), "finished_after_error": finished})
    result, other = here.ask(), here.ask()
    await anext(result)
    await anext(result)
    with pytest.raises(RequestError, match="bad"):
        await anext(result)

    assert result.finished == finished
    if not finished:
        assert await _never(result)
    assert (await other).outputs[0].finish_reason == "length"


@pytest.mark.parametrize("fails", [True, False])
async def test_behaviour_12_an_error_at_submission(opened: Opener, fails: bool) -> None:
    """generate_async itself raises, for the request that the fault names."""
    here = opened({"faults": (Fault(kind="submit", request=1, message="full"),) if fails else ()})
    assert (await here.ask()).finished
    if fails:
        with pytest.raises(RequestError, match="full"):
            here.ask()
    assert (await here.ask()).finished
    assert here.machine.live_requests == 0


@pytest.mark.parametrize("fails", [True, False])
async def test_behaviour_12_all_active_fail_alike(opened: Opener, fails: bool) -> None:
    """One message for every active request; those that come later go on."""
    here = opened({"held": True})
    results = [here.ask() for _ in range(3)]
    here.machine.steps(1)
    for result in results:
        await anext(result)
    if fails:
        here.machine.fail_active("CUDA error")
        errors = await asyncio.gather(*results, return_exceptions=True)

        assert [str(error) for error in errors] == ["CUDA error"] * 3
        assert {type(error) for error in errors} == {RequestError}
    here.machine.release()

    assert (await here.ask()).finished
    assert not here.llm._executor.is_shutdown()


@pytest.mark.parametrize("surfaces", ["one", "none"])
async def test_behaviour_12_a_fatal_error(opened: Opener, surfaces: str) -> None:
    """It surfaces on one waiter, shuts the executor down, and all others wait for ever."""
    here = opened({"fatal_surfaces": surfaces, "faults": (Fault(kind="fatal", request=0),)})
    first, second = here.ask(), here.ask()
    if surfaces == "one":
        with pytest.raises(CppExecutorError, match="told to fail"):
            await first
        assert here.llm._executor.is_shutdown()
        with pytest.raises(RuntimeError, match="shutting down"):
            here.ask()
    else:
        assert await _never(first)
        assert not here.llm._executor.is_shutdown()
        with pytest.raises(CppExecutorError):
            here.ask()
        assert here.llm._executor.is_shutdown()

    with pytest.raises(TimeoutError):
        await asyncio.wait_for(second.aresult(), BRIEF)
    assert not second.finished


@pytest.mark.parametrize("error", ["RuntimeError", "AssertionError", "EOFError"])
async def test_behaviour_12_fatal_errors_have_many_classes(opened: Opener, error: str) -> None:
    """Any class may come, at any time."""
    here = opened()
    result = here.ask(**LONG)
    await anext(result)
    here.machine.crash("lost", error)
    with pytest.raises((RuntimeError, AssertionError, EOFError), match="lost") as raised:
        await result

    assert type(raised.value).__name__ == error


@pytest.mark.parametrize("rejects", [True, False])
async def test_behaviour_12_text_stops_need_the_library_s_end(
    opened: Opener, rejects: bool
) -> None:
    """Who sets end_id has no text stops: that request fails, unless switched off."""
    here = opened({"rejects_unprocessed_stops": rejects})
    result = here.ask(end_id=2, stop="w5")
    if rejects:
        with pytest.raises(RequestError, match="not processed by tokenizer"):
            await result
    else:
        assert (await result).finished
    assert here.machine.live_requests == 0


@pytest.mark.parametrize("has", [True, False])
async def test_behaviour_17_health(opened: Opener, has: bool) -> None:
    """`_check_health` is there or not; `is_shutdown` always."""
    here = opened({"has_check_health": has})
    assert hasattr(here.llm, "_check_health") == has
    assert not here.llm._executor.is_shutdown()
    healthy = here.llm._check_health() if has else True
    here.llm.shutdown()

    assert healthy
    assert not (has and here.llm._check_health())
    assert here.llm._executor is None


@pytest.mark.parametrize("seconds", [0, 0.2])
async def test_behaviour_18_shutdown_blocks_once(opened: Opener, seconds: float) -> None:
    """The first call takes its time, the second none; afterwards nothing is taken."""
    here = opened({"shutdown_seconds": seconds})
    loop = asyncio.get_running_loop()
    times = [loop.time()]
    for _ in range(2):
        here.llm.shutdown()
        times.append(loop.time())

    assert times[1] - times[0] >= seconds
    assert times[2] - times[1] < 0.1
    with pytest.raises(RuntimeError, match="LLM is shutting down"):
        here.llm.generate_async(PROMPT, SamplingParams())


@pytest.mark.parametrize("hangs", [True, False])
async def test_behaviour_18_shutdown_may_hang(opened: Opener, hangs: bool) -> None:
    """It returns only when the machine is closed."""
    here = opened({"shutdown_hangs": hangs})
    ending = asyncio.create_task(asyncio.to_thread(here.llm.shutdown))
    done, _ = await asyncio.wait([ending], timeout=BRIEF if hangs else 10)
    here.machine.closed.set()
    await ending

    assert bool(done) != hangs


async def test_the_context_manager_shuts_down(opened: Opener) -> None:
    """Leaving it is a shutdown."""
    here = opened()
    with here.llm as llm:
        assert (await llm.generate_async(PROMPT, SamplingParams(max_tokens=1))).finished
    assert llm._executor is None
    assert tensorrt_llm.__version__ == "1.2.1"

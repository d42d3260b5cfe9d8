"""What fails one request, what ends the engine, and what is told of either."""

import asyncio

import pytest

from headrace.common.v1 import errors_pb2
from headrace.common.v1.finish_pb2 import FINISH_REASON_LENGTH, FINISH_REASON_STOP
from headrace.rpc.errors import ServiceError
from tests.support.event_sinks import CollectingSink
from tests.unit.worker.tensorrt_llm.engines import PROMPT, Fault, Opened, opened

_FAILURE = errors_pb2.ERROR_REASON_ENGINE_FAILURE
_INVALID = errors_pb2.ERROR_REASON_INVALID_REQUEST

# The canary is request 0.
FIRST = 1


async def _ends(engine: Opened, count: int = 3) -> CollectingSink:
    """Ends of as many requests, submitted together."""
    sink = CollectingSink()
    for key in range(count):
        engine.submit(sink, key, (*PROMPT, key), ignore_eos=True)
    await sink.all_ended(*range(count))
    assert sink.violations == []
    return sink


@pytest.mark.parametrize("kind", ["submit", "request"])
@pytest.mark.parametrize("step", [1, 4])
async def test_a_request_error_is_one_requests(kind: str, step: int) -> None:
    """It names what the library says; the others, and those that come, end well."""
    fault = Fault(kind=kind, request=FIRST, step=step, message="no such luck")
    async with opened({"faults": (fault,)}) as engine:
        sink = await _ends(engine)
        again = await engine.ask(max_tokens=3)
        engine.machine.wait_idle()

        error = sink.ended[0].error
        assert error is not None
        assert (error.reason, "no such luck" in error.message) == (_FAILURE, True)
        assert len(sink.token_ids.get(0, [])) == (0 if kind == "submit" else step - 1)
        assert [sink.ended[key].finish_reason for key in (1, 2)] == [FINISH_REASON_LENGTH] * 2
        assert again.ended.error is None


@pytest.mark.parametrize(
    ("message", "reason", "param"),
    [
        ("Guided decoding error: bad", _INVALID, "guide"),
        ("require 0 <= top_p", _INVALID, "sampling.top_p"),
        (
            "The sum of prompt length (9) should not exceed max_num_tokens (8)",
            errors_pb2.ERROR_REASON_CONTEXT_LENGTH_EXCEEDED,
            "prompt_token_ids",
        ),
    ],
)
async def test_the_callers_own_mistakes(message: str, reason: int, param: str) -> None:
    """They are told as such, in the library's words."""
    fault = Fault(kind="request", request=FIRST, message=message)
    async with opened({"faults": (fault,)}) as engine:
        error = (await _ends(engine, 1)).ended[0].error

    assert error is not None
    assert (error.reason, error.param) == (reason, param)
    assert message in error.message


@pytest.mark.parametrize("kind", ["CppExecutorError", "RuntimeError", "AssertionError", "EOFError"])
async def test_anything_else_ends_the_engine(kind: str) -> None:
    """Also those requests end that the library leaves hanging; nothing more is taken."""
    fault = Fault(kind="fatal", request=FIRST + 1, step=3, error=kind, message="gone")
    async with opened({"faults": (fault,)}) as engine:
        sink = await _ends(engine)
        failure = await engine.engine.failed()
        with pytest.raises(ServiceError, match="gone"):
            engine.submit(CollectingSink())

        errors = [ended.error for ended in sink.ended.values()]
        assert {error.reason for error in errors if error} == {_FAILURE}
        assert failure.reason == _FAILURE
        assert kind in failure.message


async def test_a_death_that_nobody_is_told_of() -> None:
    """Everybody waits for ever, and the executor says that it is well: the watchdog ends it."""
    async with opened({"fatal_surfaces": "none"}, watchdog_seconds=0.5) as engine:
        sink = CollectingSink()
        for key in range(2):
            engine.submit(sink, key, (*PROMPT, key), ignore_eos=True, max_tokens=3000)
        await sink.has_tokens(1)
        engine.machine.crash("silently")
        failure = await engine.engine.failed()

        assert "no token for 0.5 s" in failure.message
        assert {ended.error for ended in sink.ended.values()} == {failure}


async def test_an_executor_that_is_found_shut_down() -> None:
    """Its flag is looked at, although nothing runs."""
    async with opened(watchdog_seconds=0.2, iteration_statistics=False) as engine:
        await asyncio.to_thread(engine.machine.llms[0].shutdown)
        failure = await engine.engine.failed()

    assert "shut itself down" in failure.message


async def test_a_hang_ends_the_engine() -> None:
    """Requests run and no token comes: all end, and the engine has failed."""
    async with opened(watchdog_seconds=0.3) as engine:
        engine.machine.hold()
        sink = await _ends(engine, 2)
        failure = await engine.engine.failed()

        assert "no token for 0.3 s" in failure.message
        assert {ended.error for ended in sink.ended.values()} == {failure}
        engine.machine.release()


async def test_idleness_is_no_hang() -> None:
    """Without requests the watchdog waits for nothing."""
    async with opened(watchdog_seconds=0.5) as engine:
        failing = asyncio.create_task(engine.engine.failed())
        done, _ = await asyncio.wait({failing}, timeout=1)

        assert not done
        assert (await engine.ask(max_tokens=2)).ended.error is None
        failing.cancel()


async def test_all_requests_failing_alike_are_doubted() -> None:
    """A canary follows; where it passes, the engine goes on."""
    async with opened() as engine:
        engine.machine.hold()
        sink = CollectingSink()
        for key in range(3):
            engine.submit(sink, key, (*PROMPT, key))
        await asyncio.to_thread(
            engine.machine.wait_until, lambda: len(engine.machine.requests) == 4
        )
        engine.machine.steps(2)
        await sink.wait_until(lambda: len(sink.token_ids) == 3)
        engine.machine.fail_active("forward pass failed")
        engine.machine.release()
        await sink.all_ended(0, 1, 2)
        await asyncio.to_thread(
            engine.machine.wait_until, lambda: len(engine.machine.requests) == 5
        )
        canary = engine.machine.requests[4]

        assert {ended.error.reason for ended in sink.ended.values() if ended.error} == {_FAILURE}
        assert canary.sampling_params.max_tokens == 1
        assert (await engine.ask(max_tokens=2)).ended.error is None


async def test_one_that_waits_inside_is_no_witness() -> None:
    """It does not fail with those that compute, and yet they are all that there was."""
    settings = {"max_batch_size": 2, "max_handed_ahead_outputs": 1}
    async with opened(**settings) as engine:
        sink = CollectingSink()
        for key in range(3):
            engine.submit(sink, key, (*PROMPT, key), ignore_eos=True, max_tokens=3000)
        await sink.wait_until(lambda: len(sink.token_ids) == 2)
        # Else the third would compute before the failure of the others has arrived.
        engine.machine.hold()
        engine.machine.fail_active("forward pass failed")
        await sink.all_ended(0, 1)
        engine.machine.release()
        await asyncio.to_thread(
            engine.machine.wait_until, lambda: len(engine.machine.requests) == 5
        )

        assert engine.machine.requests[4].sampling_params.max_tokens == 1
        engine.engine.abort(sink, [2])


async def test_an_engine_whose_canary_fails_afterwards_is_ended() -> None:
    """All failed alike, and so does the canary: the engine has failed."""
    faults = tuple(
        Fault(kind="request", request=FIRST + number, message="forward pass failed")
        for number in range(3)
    )
    async with opened({"faults": faults}) as engine:
        sink = await _ends(engine, 2)
        failure = await engine.engine.failed()

    assert {ended.error is None for ended in sink.ended.values()} == {False}
    assert "canary" in failure.message


@pytest.mark.parametrize(
    ("forced", "reason"),
    [
        ("timeout", errors_pb2.ERROR_REASON_DEADLINE_EXCEEDED),
        ("cancelled", _FAILURE),
        ("not_finished", _FAILURE),
    ],
)
async def test_ends_that_nobody_asked_for(forced: str, reason: int) -> None:
    """They are failures, named as the library names them."""
    async with opened({"forced_finish_reason": forced}) as engine:
        error = (await engine.ask(ignore_eos=True, max_tokens=3)).ended.error

    assert error is not None
    assert error.reason == reason


async def test_an_end_without_a_reason() -> None:
    """A full answer ended by its length; one that held an end token ended by that."""
    async with opened({"forced_finish_reason": "unset"}) as engine:
        full = await engine.ask(ignore_eos=True, max_tokens=3)
        free = await engine.ask()

    assert full.ended.finish_reason == FINISH_REASON_LENGTH
    assert free.ended.finish_reason == FINISH_REASON_STOP

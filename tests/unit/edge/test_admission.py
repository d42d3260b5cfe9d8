"""Admission: who gets a permit, who waits, who is refused."""

import asyncio
from contextlib import AsyncExitStack

import pytest

from edge.admission import Admission
from edge.settings import AdmissionSettings
from headrace.common.v1 import errors_pb2
from headrace.rpc.errors import ServiceError


def admission(running: int, queued: int, seconds: float = 5) -> Admission:
    return Admission(
        AdmissionSettings(
            max_concurrent_requests=running,
            max_queued_requests=queued,
            queue_timeout_seconds=seconds,
            retry_after_seconds=7,
        )
    )


async def hold(gate: Admission, order: list[int], number: int) -> None:
    async with gate.permit():
        order.append(number)


async def started(*coroutines: object) -> list[asyncio.Task[None]]:
    tasks = [asyncio.create_task(coroutine) for coroutine in coroutines]
    await asyncio.sleep(0)
    return tasks


async def test_first_come_first_served() -> None:
    """Those who wait get their turns in the order of their coming."""
    gate, order = admission(1, 3), []
    async with gate.permit():
        tasks = await started(*(hold(gate, order, number) for number in range(3)))
        assert (1, 3) == (gate.num_running, gate.num_queued)
    await asyncio.gather(*tasks)

    assert [0, 1, 2] == order
    assert (0, 0) == (gate.num_running, gate.num_queued)


async def test_full_queue() -> None:
    """Beyond the queue a request is refused at once and told when to come back."""
    gate = admission(1, 1)
    async with gate.permit():
        (waiting,) = await started(hold(gate, [], 0))
        with pytest.raises(ServiceError) as caught:
            await hold(gate, [], 1)
    await waiting

    assert errors_pb2.ERROR_REASON_OVERLOADED == caught.value.reason
    assert caught.value.retry_after_seconds == 7


async def test_long_wait() -> None:
    """A request that waits too long is refused, and its place is free again."""
    gate = admission(1, 1, seconds=0.01)
    async with gate.permit():
        with pytest.raises(ServiceError) as caught:
            await hold(gate, [], 0)
        assert (1, 0) == (gate.num_running, gate.num_queued)

    assert "waited 0.01 seconds" in str(caught.value)
    assert gate.num_running == 0


async def test_cancelled_while_waiting() -> None:
    """Whoever leaves the queue leaves no hole in it."""
    gate, order = admission(1, 2), []
    async with gate.permit():
        first, second = await started(hold(gate, order, 0), hold(gate, order, 1))
        # In one turn with the end of the permit: nobody has taken the place out of the queue yet.
        first.cancel()
    ends = await asyncio.gather(first, second, return_exceptions=True)

    assert [asyncio.CancelledError, type(None)] == [type(end) for end in ends]
    assert [1] == order
    assert gate.num_running == 0


async def test_cancelled_with_permit_in_hand() -> None:
    """A permit that was handed to somebody who left in the same turn goes on to the next."""
    gate, order = admission(1, 2), []
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(gate.permit())
        first, second = await started(hold(gate, order, 0), hold(gate, order, 1))
        await stack.aclose()
        first.cancel()
    await asyncio.gather(first, second, return_exceptions=True)

    assert [1] == order
    assert (0, 0) == (gate.num_running, gate.num_queued)


async def test_failure_returns_permit() -> None:
    """A permit comes back when the work fails."""
    gate = admission(1, 0)
    with pytest.raises(ZeroDivisionError):
        async with gate.permit():
            raise ZeroDivisionError

    async with gate.permit():
        assert gate.num_running == 1

"""The table of running requests: entered once, released once, with one line each."""

import asyncio
from dataclasses import replace

import pytest
import structlog

from headrace.telemetry.trace_context import TraceContext
from tests.support.raw_attach import generation
from worker.active_requests import ActiveRequest, RequestTable
from worker.engine.seam import EngineRequest, StartedEvent

REQUEST = EngineRequest("r1", 5, [1, 2, 3], 10, n=2)
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


def opened(table: RequestTable, request: EngineRequest = REQUEST) -> ActiveRequest:
    """Enter a request without a deadline's consequence."""
    return table.open(generation(), request, lambda: None)


async def test_the_table_counts_and_is_idle_again() -> None:
    """Requests count until they are released; then whoever waits for idleness goes on."""
    table = RequestTable()
    await table.idle()
    first, second = opened(table), opened(table)
    waiting = asyncio.create_task(table.idle())
    table.release(first)
    await asyncio.sleep(0)
    early = waiting.done()
    between = table.num_running
    table.release(second)
    await asyncio.wait_for(waiting, 1)

    assert (False, 1, 0) == (early, between, table.num_running)
    assert {5, 6} == first.open_keys


async def test_a_second_release_is_a_bug() -> None:
    """Whoever releases what it does not own is told loudly."""
    table = RequestTable()
    active = opened(table)
    table.release(active)
    with pytest.raises(KeyError):
        table.release(active)


async def test_the_deadline_is_called_once_and_not_after_a_release() -> None:
    """A remaining time that passes is told to the owner; a released request has none."""
    table = RequestTable()
    passed = asyncio.Event()
    late: list[str] = []
    wire = generation(remaining_ms=20)
    table.open(wire, REQUEST, passed.set)
    released = table.open(wire, REQUEST, lambda: late.append("late"))
    table.release(released)
    await asyncio.wait_for(passed.wait(), 5)

    assert [] == late


async def test_no_remaining_time_is_at_once_and_an_endless_one_is_no_error() -> None:
    """Zero ends the request in the next turn; the largest number is simply far away."""
    table = RequestTable()
    passed = asyncio.Event()
    table.open(generation(remaining_ms=0), REQUEST, passed.set)
    table.release(table.open(generation(remaining_ms=2**64 - 1), REQUEST, passed.set))

    await asyncio.wait_for(passed.wait(), 1)


async def test_the_canonical_line_says_how_it_went() -> None:
    """One line a request, with counts, times and outcomes, and nothing of its text."""
    table = RequestTable()
    with structlog.testing.capture_logs() as logs:
        trace = TraceContext(f"00-{TRACE}-00f067aa0ba902b7-01")
        active = opened(table, replace(REQUEST, trace=trace))
        active.started = StartedEvent(5, 3, 2, queue_ms=4, prefill_ms=6)
        active.output_tokens = 7
        active.outcomes += ["stop", "length"]
        table.release(active)
    (line,) = logs

    assert {
        "event": "request_ended",
        "log_level": "info",
        "request_id": "r1",
        "trace_id": TRACE,
        "outcomes": ["stop", "length"],
        "prompt_tokens": 3,
        "cached_prompt_tokens": 2,
        "output_tokens": 7,
        "queue_ms": 4,
        "prefill_ms": 6,
        "total_ms": line["total_ms"],
    } == line

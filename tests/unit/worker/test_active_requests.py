"""The table of running requests: entered once, released once, with one line each."""

import asyncio

import pytest
import structlog

from headrace.common.v1 import errors_pb2
from headrace.common.v1.finish_pb2 import FINISH_REASON_LENGTH, FINISH_REASON_STOP
from headrace.rpc.errors import ServiceError
from tests.support.raw_attach import generation
from worker.active_requests import ActiveRequest, RequestTable
from worker.engine.seam import EndedEvent, EngineRequest, StartedEvent

REQUEST = EngineRequest("r1", 5, [1, 2, 3], 10, n=2)
CUT = EngineRequest("r2", 1, [1, 2, 3], 10)
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


@pytest.mark.parametrize(
    ("remaining_ms", "is_due"), [(None, False), (0, True), (40, True), (60_000, False)]
)
async def test_a_caller_that_leaves_as_its_time_ends_is_late(
    remaining_ms: int | None, *, is_due: bool
) -> None:
    """Its clock began before the worker's, and so its deadline comes first."""
    table = RequestTable()
    fields = {} if remaining_ms is None else {"remaining_ms": remaining_ms}
    active = table.open(generation(**fields), REQUEST, lambda: None)

    assert active.is_due is is_due
    table.release(active)


async def test_the_canonical_line_says_how_it_went() -> None:
    """One line a request, with counts, times and outcomes, and nothing of its text."""
    table = RequestTable()
    wire = generation(traceparent=f"00-{TRACE}-00f067aa0ba902b7-01", cache_salt="tenant:acme")
    with structlog.testing.capture_logs() as logs:
        active = table.open(wire, REQUEST, lambda: None)
        begin = active.report.submitted_at
        progress = REQUEST.progress
        progress.fed(begin - 1)
        progress.fed(begin + 1)
        progress.first_token(begin)
        progress.last_token_at = begin
        active.start(StartedEvent(5, 3, 2, queue_ms=4, prefill_ms=6))
        active.start(StartedEvent(6, 3, 0, queue_ms=4, prefill_ms=6))
        active.end_output(EndedEvent(5, finish_reason=FINISH_REASON_STOP, num_output_tokens=4))
        active.end_output(EndedEvent(6, finish_reason=FINISH_REASON_LENGTH, num_output_tokens=3))
        table.release(active)
    (line,) = logs

    assert {
        "event": "request_ended",
        "log_level": "info",
        "request_id": "r1",
        "trace_id": TRACE,
        "tenant": "acme",
        "outcomes": ["stop", "length"],
        "abort_cause": None,
        "prompt_tokens": 3,
        "cached_prompt_tokens": 2,
        "output_tokens": 7,
        "queue_ms": 0.0,
        "prefill_ms": 0.0,
        "decode_ms": 0.0,
        "total_ms": line["total_ms"],
    } == line


async def test_a_request_that_was_cut_has_its_line_too() -> None:
    """Of an aborted request it says why, how far it came, and what had been generated."""
    table = RequestTable()
    with structlog.testing.capture_logs() as logs:
        active = table.open(generation(), CUT, lambda: None)
        CUT.progress.fed(active.report.submitted_at)
        CUT.progress.first_token(active.report.submitted_at)
        CUT.progress.num_output_tokens = 11
        active.start(StartedEvent(1, 3, 2, queue_ms=4, prefill_ms=6))
        table.abort(active, 1, "caller")
        left = ServiceError(errors_pb2.ERROR_REASON_CLIENT_CANCELLED, "left")
        active.end_output(EndedEvent(1, error=left))
        table.release(active)
    (line,) = logs

    assert (["client_cancelled"], "caller") == (line["outcomes"], line["abort_cause"])
    assert 11 == line["output_tokens"]
    assert line["decode_ms"] <= line["total_ms"]
    assert (1, 1) == (table.aborted_outputs, table.aborts["caller"])

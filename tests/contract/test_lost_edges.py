"""What a worker tells of an edge that is gone: figures of each request, one line of all."""

from collections.abc import Iterator
from typing import Any

import pytest
from structlog.testing import capture_logs

from tests.contract.test_worker_metrics import Counted
from tests.support.engines import ScriptedEngine
from tests.support.raw_attach import RawAttach, RunningWorker, generation

TRACE = f"{7:032x}"


@pytest.fixture
def lines() -> Iterator[list[Any]]:
    """What is logged of requests."""
    with capture_logs() as logs:
        yield logs


async def submitted(edge: RawAttach, num_requests: int) -> None:
    """So many requests of two outputs, all accepted."""
    for number in range(num_requests):
        wire = generation(request_id=f"req_{number}", traceparent=f"00-{TRACE}-{9:016x}-00", n=2)
        await edge.submit(1 + 2 * number, wire)
    await edge.read_until("accepted_handles", 2 * num_requests)


async def lose(edge: RawAttach, worker: RunningWorker) -> None:
    """Break the stream off, and wait until nothing of it is left."""
    edge.call.cancel()
    await worker.servicer.table.idle()


def named(lines: list[Any], event: str) -> list[dict[str, Any]]:
    """The lines of an event, without what is the same in all of them."""
    rest = ("event", "log_level")
    return [
        {key: value for key, value in line.items() if key not in rest}
        for line in lines
        if line["event"] == event
    ]


async def test_requests_that_are_lost_with_their_edge_are_one_line(lines: list[Any]) -> None:
    """How many, and the first of them; one that its edge had begun to abort has its own line."""
    counted = Counted(ScriptedEngine())
    async with counted.serving as worker:
        edge = RawAttach(worker.stub)
        await submitted(edge, 20)
        await edge.abort(1)
        await edge.read_until("terminals")
        await lose(edge, worker)
        outcomes = [
            counted.value("headrace_worker_requests_total", outcome=outcome)
            for outcome in ("client_cancelled", "edge_lost")
        ]
        table = worker.servicer.table

    assert named(lines, "requests_lost") == [
        {
            "abort_cause": "stream_ended",
            "requests": 19,
            "output_tokens": 0,
            "first_request_ids": [f"req_{number}" for number in range(1, 9)],
            "first_trace_ids": [TRACE] * 8,
        }
    ]
    (own,) = named(lines, "request_ended")
    assert (own["request_id"], own["abort_cause"]) == ("req_0", "caller")
    assert own["outcomes"] == ["client_cancelled", "edge_lost"]
    assert outcomes == [1, 19]
    assert (table.aborts["stream_ended"], table.num_running) == (39, 0)


async def test_an_edge_that_leaves_nothing_behind_is_no_line(lines: list[Any]) -> None:
    """What had ended has had its own."""
    counted = Counted(ScriptedEngine())
    async with counted.serving as worker:
        edge = RawAttach(worker.stub)
        await submitted(edge, 1)
        await edge.abort(1, 2)
        await edge.read_until("terminals", 2)
        await lose(edge, worker)

    assert len(named(lines, "request_ended")) == 1
    assert named(lines, "requests_lost") == []

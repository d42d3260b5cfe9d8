"""How an Attach stream lives and ends: heartbeats, silence, peers that do not read, draining."""

import asyncio
import time

import grpc
import pytest

from headrace.common.v1 import errors_pb2
from headrace.common.v1.finish_pb2 import FINISH_REASON_LENGTH
from tests.contract.test_attach import FAST, accepted
from tests.support.engines import ScriptedEngine
from tests.support.raw_attach import RawAttach, RunningWorker, running_worker
from worker.main import _drain


async def test_a_silent_edge_is_dead() -> None:
    """An edge that sends nothing for the silence limit loses its stream and all its requests."""
    engine = ScriptedEngine()
    async with running_worker(engine, FAST) as worker:
        raw = RawAttach(worker.stub)
        await accepted(raw)
        with pytest.raises(grpc.aio.AioRpcError):
            await raw.read_to_end()
        await asyncio.wait_for(worker.servicer.table.idle(), 5)

    assert [1] == engine.aborted


async def test_heartbeats_acknowledge() -> None:
    """Without traffic a frame comes every heartbeat, with the last sequence received."""
    async with running_worker(ScriptedEngine(), FAST) as worker:
        raw = RawAttach(worker.stub)
        await raw.send()
        await raw.send()
        frames = [await raw.read() for _ in range(3)]

    assert 2 == frames[-1].header.last_received_sequence


async def test_a_lost_stream_ends_everything_on_it() -> None:
    """When the edge's call is cut, all of its requests leave the table and are aborted."""
    engine = ScriptedEngine()
    async with running_worker(engine) as worker:
        raw = RawAttach(worker.stub)
        await accepted(raw, 1, n=2)
        await raw.submit(3)
        await raw.read_until("accepted_handles")
        raw.call.cancel()
        await asyncio.wait_for(worker.servicer.table.idle(), 5)

    assert {1, 2, 3} == set(engine.aborted)


async def test_draining_takes_nothing_new_and_ends_what_runs() -> None:
    """A draining worker says so in every frame, refuses new requests, and finishes running ones."""
    engine = ScriptedEngine()
    async with running_worker(engine) as worker:
        raw = RawAttach(worker.stub)
        await accepted(raw)
        worker.servicer.drain()
        draining = await raw.read()
        await raw.submit(2)
        refused = await raw.read_until("terminals")
        engine.emit(1, 11)
        engine.finish(1)
        ended = await raw.read_until("terminals")
        await asyncio.wait_for(worker.servicer.table.idle(), 5)

    assert draining.header.draining
    assert errors_pb2.ERROR_REASON_DRAINING == refused[-1].terminals[0].failure.reason
    assert FINISH_REASON_LENGTH == ended[-1].terminals[0].finish_reason


async def test_requests_of_an_edge_that_reads_nothing_end_and_the_stream_lives() -> None:
    """At the bound of waiting tokens single requests end as OVERLOADED; others go on afterwards."""
    engine = ScriptedEngine()
    batch = [40_000] * 50_000
    async with running_worker(engine) as worker:
        raw = RawAttach(worker.stub)
        await accepted(raw, 1)
        await accepted(raw, 2)
        while not engine.aborted:
            engine.emit(1, *batch)
            await asyncio.sleep(0)  # let the writer try
        refused = await raw.read_until("terminals")
        engine.emit(2, 11)
        engine.finish(2)
        ended = await raw.read_until("terminals")

    terminal = refused[-1].terminals[0]
    assert (1, errors_pb2.ERROR_REASON_OVERLOADED) == (terminal.handle, terminal.failure.reason)
    assert [1] == engine.aborted
    assert 1_000_000 < sum(len(frame.token_ids) for frame in refused)
    assert (2, FINISH_REASON_LENGTH) == (
        ended[-1].terminals[0].handle,
        ended[-1].terminals[0].finish_reason,
    )


async def test_a_blocked_loop_of_the_worker_does_not_kill_its_edges() -> None:
    """Time in which the worker's own loop was stuck is not counted as the edge's silence."""
    engine = ScriptedEngine()
    async with running_worker(engine, FAST) as worker:
        raw = RawAttach(worker.stub)
        await accepted(raw)
        for _ in range(2):
            time.sleep(0.8)  # noqa: ASYNC251 (the loop is to be stuck, longer than the limit)
            await raw.send()
        engine.emit(1, 11)
        engine.finish(1)
        frames = await raw.read_until("terminals")

    assert FINISH_REASON_LENGTH == frames[-1].terminals[0].finish_reason


async def test_a_missing_hello_ends_the_stream() -> None:
    """A first frame without hello, and a second one with it, break the contract."""
    async with running_worker(ScriptedEngine()) as worker:
        for greetings in ((False,), (True, True)):
            raw = RawAttach(worker.stub)
            for greet in greetings:
                await raw.send(greet=greet)
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await raw.read_to_end()

            assert "hello" in (caught.value.details() or "")


async def test_an_acknowledgement_of_what_was_not_sent_ends_the_stream() -> None:
    """The edge cannot have received a frame that the worker has not sent."""
    async with running_worker(ScriptedEngine()) as worker:
        raw = RawAttach(worker.stub)
        raw.received = 1000
        await raw.send()
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await raw.read_to_end()

    assert "1000" in (caught.value.details() or "")


async def _end(worker: RunningWorker) -> None:
    """As the process does."""
    await _drain(worker.server, worker.servicer, 5)
    await worker.server.stop(0)


async def test_the_last_words_of_a_draining_worker_arrive() -> None:
    """What ends while the worker drains reaches the edge whole, before the stream is closed."""
    engine = ScriptedEngine()
    async with running_worker(engine) as worker:
        raw = RawAttach(worker.stub)
        await accepted(raw, 1, n=64)
        ending = asyncio.create_task(_end(worker))
        assert (await raw.read()).header.draining
        for handle in range(1, 65):
            engine.emit(handle, *[40_000] * 3000)
            engine.finish(handle)
        frames = await raw.read_until("terminals", 64)
        await raw.read_to_end()
        await ending

    assert 64 * 3000 == sum(len(frame.token_ids) for frame in frames)


@pytest.mark.parametrize("grace_seconds", [0, 0.05])
async def test_a_grace_that_is_over_ends_what_runs(grace_seconds: float) -> None:
    """A drain waits no longer; the stream says that it drains, and then ends without an error."""
    engine = ScriptedEngine()
    async with running_worker(engine) as worker:
        raw = RawAttach(worker.stub)
        await accepted(raw)
        engine.emit(1, 40_000)
        await asyncio.wait_for(_drain(worker.server, worker.servicer, grace_seconds), 5)
        frames = await raw.read_to_end()

        assert 0 == worker.servicer.table.num_running
        assert [1] == engine.aborted
        assert frames[-1].header.draining
        assert [40_000] == [token for frame in frames for token in frame.token_ids]

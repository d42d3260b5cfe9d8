"""Peers that say nothing, read nothing, drain or go, as the edge sees them."""

import asyncio
import itertools
import time

from headrace.client.backend import GrpcChatBackend
from headrace.common.v1 import errors_pb2
from headrace.rpc.limits import FrameTiming
from tests.support import scripted_tokenizer as tok
from tests.support import scripted_worker as wrk
from tests.support.recording_consumer import RecordingConsumer
from tests.support.scripted_scene import scripted_scene
from tests.support.scripted_worker import scripted_worker

FAST = FrameTiming(heartbeat_seconds=0.1, silence_seconds=0.5, hello_seconds=0.5)


async def test_requests_end_singly_when_a_tokenizer_reads_nothing() -> None:
    """At the bound of waiting tokens the fed request ends as OVERLOADED; the stream lives."""
    fed, idle = RecordingConsumer(), RecordingConsumer()
    batch = [40_000] * 50_000
    async with scripted_scene() as scene:
        scene.generate(fed)
        scene.generate(idle)
        handle, other = [
            entry.first_handle for entry in await scene.worker.read_until("submissions", 2)
        ]
        scene.tokenizer.reading.clear()
        while not fed.ended.is_set():
            await scene.worker.send(wrk.tokens(handle, *batch))
        aborted = await scene.worker.read_until("aborted_handles")
        scene.tokenizer.reading.set()
        closes = await scene.tokenizer.read_until("closes")
        await scene.worker.send(wrk.tokens(other, 11))
        await scene.tokenizer.send(tok.text(other, "on", 1))
        await idle.hears("text")

        assert [errors_pb2.ERROR_REASON_OVERLOADED] == [error.reason for error in fed.errors]
        assert [handle] == aborted == [entry.handle for entry in closes]
        assert 1 == len(scene.tokenizers[0].streams) == len(scene.workers[0].streams)
        assert 1_000_000 < len(scene.tokenizer.entries("token_ids"))


async def test_a_silent_worker_is_dead_and_connected_again() -> None:
    """A worker that stops sending without closing loses its stream; the edge opens another."""
    async with scripted_scene(timing=FAST) as scene:
        again = await asyncio.wait_for(scene.workers[0].greeted(), 5)
        await scene.backend._workers[0].connected.wait()

        assert again is not scene.worker


async def test_a_silent_tokenizer_is_dead_and_connected_again() -> None:
    """The same of a tokenizer; what was open there ends with an error, since it has no other."""
    consumer = RecordingConsumer()
    async with scripted_scene(timing=FAST) as scene:
        scene.generate(consumer)
        await asyncio.wait_for(consumer.ended.wait(), 5)
        await asyncio.wait_for(scene.tokenizers[0].greeted(), 5)

    assert [errors_pb2.ERROR_REASON_WORKER_LOST] == [error.reason for error in consumer.errors]


async def test_a_blocked_loop_of_the_edge_does_not_kill_a_healthy_peer() -> None:
    """Time in which the edge's own loop was stuck is not counted as its peers' silence."""
    async with scripted_scene(timing=FAST) as scene:
        consumer = RecordingConsumer()
        scene.generate(consumer)
        handle = (await wrk.submitted(scene.worker)).first_handle
        for _ in range(2):
            time.sleep(0.8)  # noqa: ASYNC251 (the loop is to be stuck, longer than the limit)
            await asyncio.gather(scene.worker.send(), scene.tokenizer.send())
        await scene.worker.send(wrk.start(handle))
        await consumer.hears("started")

        assert 1 == len(scene.workers[0].streams)
        assert 1 == len(scene.tokenizers[0].streams)


async def test_a_lost_worker_is_reached_again_at_its_address() -> None:
    """After each loss the edge connects to the same address again, and requests are served."""
    async with scripted_scene() as scene:
        link = scene.backend._workers[0]
        stream = scene.worker
        for _ in range(3):
            stream.close()
            stream = await scene.workers[0].greeted()
        await link.connected.wait()
        scene.generate(RecordingConsumer())
        submission = await wrk.submitted(stream)

        assert "r1" == submission.request.request_id


async def _attempts(count: int) -> list[float]:
    """Seconds between so many attempts at a worker that closes before it is of use."""
    loop = asyncio.get_running_loop()
    async with scripted_worker() as worker:
        backend = GrpcChatBackend([worker.address], [])
        await backend.start()
        times = []
        for _ in range(count):
            stream = await worker.opened.get()
            times.append(loop.time())
            stream.close()
        await backend.stop()
    return [after - before for before, after in itertools.pairwise(times)]


async def test_back_off_grows_while_a_worker_refuses() -> None:
    """Attempts at a worker that closes before it is of use come at growing distances."""
    first, _, third = await _attempts(4)
    again = [await _attempts(2) for _ in range(3)]

    assert first >= 0.04
    assert third >= 0.19
    # The soonest of several: what else the machine does only ever adds.
    assert min(first, *(gap for gaps in again for gap in gaps)) <= 0.15


async def test_a_draining_worker_gets_nothing_new_and_what_runs_ends() -> None:
    """After a draining frame requests go elsewhere, and the running one is finished there."""
    consumer = RecordingConsumer()
    async with scripted_scene(workers=2) as scene:
        scene.generate(consumer)
        stream, first = await scene.serving_worker()
        other = next(s for s in scene.worker_streams if s is not stream)
        await stream.send(draining=True)
        await stream.send(wrk.start(first.first_handle), draining=True)
        await consumer.hears("started")
        for _ in range(4):
            scene.generate(RecordingConsumer())
        await other.read_until("submissions", 4)
        await stream.send(wrk.tokens(first.first_handle, 11), draining=True)
        await stream.send(wrk.end(first.first_handle), draining=True)
        await scene.tokenizer.read_until("closes")
        answer = tok.text(first.first_handle, "all of it", 1)
        answer.closed_handles.append(first.first_handle)
        await scene.tokenizer.send(answer)
        await consumer.hears("done")

    assert 1 == len(stream.entries("submissions"))
    assert {0: "all of it"} == consumer.texts

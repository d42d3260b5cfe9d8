"""Outputs that a drain cuts at its grace: another replica goes on, and nobody has crashed."""

import pytest

from headrace.common.v1 import errors_pb2
from tests.contract.test_continuation import begun, prefix, serving_tokenizer
from tests.support import scripted_tokenizer as tok
from tests.support import scripted_worker as wrk
from tests.support.recording_consumer import RecordingConsumer
from tests.support.scripted_scene import Scene, nothing_left, scripted_scene
from tests.support.scripted_stream import ScriptedStream

DRAINING = errors_pb2.ERROR_REASON_DRAINING


async def cut(stream: ScriptedStream) -> None:
    """As a peer does whose grace is over: it says that it drains, and ends the stream."""
    await stream.send(draining=True)
    stream.close()


def failures(consumer: RecordingConsumer) -> list[tuple[int, int, bool]]:
    """Reason, HTTP status and finality of each error that was heard."""
    return [(each.reason, each.row.http_status, each.is_final) for each in consumer.errors]


async def end(scene: Scene, worker: ScriptedStream, at_worker: int) -> None:
    """Play the answer to its end."""
    await worker.send(wrk.tokens(at_worker, 13))
    await worker.send(wrk.end(at_worker))
    tokenizer = serving_tokenizer(scene)
    await tokenizer.read_until("token_ids")
    while not (closed := [e.handle for e in tokenizer.entries("closes") if e.finish_reason]):
        await tokenizer.changed()
    await tokenizer.send(tok.closed(*closed))


@pytest.mark.parametrize("peer", ["worker", "tokenizer"])
async def test_what_a_drain_cuts_goes_on_and_counts_as_such(peer: str) -> None:
    """The retry's reason is `draining`, of a worker as of a tokenizer."""
    consumer = RecordingConsumer()
    async with scripted_scene(workers=2, tokenizers=2, continues=True) as scene:
        scene.generate(consumer)
        worker, handle = await begun(scene, consumer, 11, 12)
        if peer == "worker":
            await cut(worker)
            worker, again = await scene.serving_worker(2)
            assert prefix(again) == [11, 12]
            handle = again.first_handle
        else:
            lost = serving_tokenizer(scene)
            await cut(lost)
            await tok.opened(next(each for each in scene.tokenizer_streams if each is not lost))
        await end(scene, worker, handle)
        await consumer.hears("done")

        assert scene.backend.retries == {"draining": 1}
        assert consumer.errors == []
        assert nothing_left(scene)


@pytest.mark.parametrize("peer", ["worker", "tokenizer"])
@pytest.mark.parametrize("has_text", [True, False])
async def test_what_a_drain_cuts_with_nowhere_to_go_is_told_as_such(
    peer: str, has_text: bool
) -> None:
    """503 `draining`, which may be tried again; no retry is counted."""
    consumer = RecordingConsumer()
    async with scripted_scene(continues=True) as scene:
        scene.generate(consumer)
        if has_text:
            await begun(scene, consumer, 11)
        else:
            await scene.serving_worker()
        await cut(scene.worker if peer == "worker" else scene.tokenizer)
        await consumer.hears("error")

        assert failures(consumer) == [(DRAINING, 503, False)]
        assert scene.backend.retries == {}
        assert nothing_left(scene)


async def test_a_drain_is_no_refusal() -> None:
    """A request that two drains in a row have cut before its first token is taken by the third."""
    consumer = RecordingConsumer()
    async with scripted_scene(workers=3) as scene:
        scene.generate(consumer)
        for count in (1, 2):
            worker, _ = await scene.serving_worker(count)
            await cut(worker)
        worker, third = await scene.serving_worker(3)
        await end(scene, worker, third.first_handle)
        await consumer.hears("done")

        assert scene.backend.retries == {"draining": 2}
        assert consumer.errors == []


async def test_a_crash_behind_a_drain_is_still_a_crash() -> None:
    """A drain neither counts as a crash nor hides one."""
    consumer = RecordingConsumer()
    async with scripted_scene(workers=3, continues=True) as scene:
        scene.generate(consumer)
        worker, _ = await begun(scene, consumer, 11)
        await cut(worker)
        worker, _ = await scene.serving_worker(2)
        worker.close()
        await scene.serving_worker(3)

        assert scene.backend.retries == {"draining": 1, "worker_lost": 1}
        assert consumer.errors == []

"""Loss, refusal and retry of running requests, against scripted workers and tokenizers."""

import pytest

from headrace.common.v1 import errors_pb2
from headrace.rpc.limits import FrameTiming
from headrace.tokenizer.v1.detokenize_pb2 import DetokenizeResponse
from tests.support import scripted_tokenizer as tok
from tests.support import scripted_worker as wrk
from tests.support.recording_consumer import RecordingConsumer
from tests.support.scripted_scene import Scene, nothing_left, scripted_scene, tokenizer_of
from tests.support.scripted_stream import ScriptedStream

QUICK = FrameTiming(heartbeat_seconds=0.2)
"""An open without tokens goes with them, or with the next frame."""
WORKER_LOST = errors_pb2.ERROR_REASON_WORKER_LOST
OVERLOADED = errors_pb2.ERROR_REASON_OVERLOADED
DRAINING = errors_pb2.ERROR_REASON_DRAINING


async def lose_tokenizer(scene: Scene) -> ScriptedStream:
    """Close the stream of the one tokenizer of two that has outputs; returns the other's."""
    used = next(i for i, link in enumerate(scene.backend._tokenizers) if link.num_outputs)
    scene.tokenizer_streams[used].close()
    return scene.tokenizer_streams[1 - used]


async def answered(
    scene: Scene, worker: ScriptedStream, at_worker: int, text: str, handle: int | None = None
) -> None:
    """Play worker and tokenizer to the end of one output of one token; they may name it apart."""
    handle = at_worker if handle is None else handle
    await worker.send(wrk.start(at_worker))
    await worker.send(wrk.tokens(at_worker, 11))
    await worker.send(wrk.end(at_worker))
    tokenizer = await tokenizer_of(scene, handle)
    frame = tok.text(handle, text, 1)
    frame.closed_handles.append(handle)
    await tokenizer.send(frame)


async def test_a_worker_lost_before_delivery_is_retried_elsewhere() -> None:
    """The request runs again on the other worker; its answer is complete and not repeated."""
    consumer = RecordingConsumer(delivers=False)
    async with scripted_scene(workers=2) as scene:
        scene.generate(consumer)
        first, submission = await scene.serving_worker()
        await first.send(wrk.start(submission.first_handle))
        await first.send(wrk.tokens(submission.first_handle, 11))
        await scene.tokenizer.read_until("token_ids")
        await scene.tokenizer.send(tok.text(submission.first_handle, "half", 1))
        await consumer.hears("text")
        first.close()
        second, again = await scene.serving_worker(2)
        await answered(scene, second, again.first_handle, "the whole")
        await consumer.hears("done")

        assert second is not first
        assert again.first_handle > submission.first_handle
        assert {0: "the whole"} == consumer.texts
        assert 2 == consumer.attempts
        assert [] == consumer.errors
        assert 1 == consumer.results[0].completion_tokens
        assert nothing_left(scene)
        assert [submission.first_handle] == tok.abandoned(scene.tokenizer)


async def test_a_worker_lost_after_delivery_is_an_error_once() -> None:
    """When text has reached the caller the request ends with WORKER_LOST, and nothing after it."""
    consumer = RecordingConsumer()
    async with scripted_scene(workers=2) as scene:
        scene.generate(consumer)
        first, submission = await scene.serving_worker()
        await first.send(wrk.tokens(submission.first_handle, 11))
        await scene.tokenizer.read_until("token_ids")
        await scene.tokenizer.send(tok.text(submission.first_handle, "half", 1))
        await consumer.hears("text")
        first.close()
        await consumer.hears("error")
        await scene.tokenizer.send(tok.text(submission.first_handle, "late", 2))
        await scene.tokenizer.read_until("closes")

        assert [WORKER_LOST] == [error.reason for error in consumer.errors]
        assert ("error", "worker_lost") == consumer.heard[-1]
        assert {0: "half"} == consumer.texts
        assert nothing_left(scene)


async def test_a_request_aboard_two_lost_workers_is_not_tried_on_a_third() -> None:
    """The second loss is the request's end, for its client as well, though a third is there."""
    consumer = RecordingConsumer()
    async with scripted_scene(workers=3) as scene:
        scene.generate(consumer)
        first, _ = await scene.serving_worker()
        first.close()
        second, _ = await scene.serving_worker(2)
        second.close()
        await consumer.hears("error")

        assert [(WORKER_LOST, True)] == [(e.reason, e.is_final) for e in consumer.errors]
        assert 2 == sum(len(stream.entries("submissions")) for stream in scene.worker_streams)
        assert nothing_left(scene)


async def test_a_lost_worker_without_another_is_an_error() -> None:
    """With nowhere to go it ends with what ended its only attempt, and no retry is counted."""
    consumer = RecordingConsumer()
    async with scripted_scene() as scene:
        scene.generate(consumer)
        await wrk.submitted(scene.worker)
        scene.worker.close()
        await consumer.hears("error")

        assert [(WORKER_LOST, False)] == [(e.reason, e.is_final) for e in consumer.errors]
        assert nothing_left(scene)
        assert {} == scene.backend.retries


async def test_all_outputs_of_a_request_move_together() -> None:
    """A request with n outputs loses its worker as one and is retried as one."""
    consumer = RecordingConsumer(delivers=False)
    async with scripted_scene(workers=2) as scene:
        scene.generate(consumer, n=3)
        first, _ = await scene.serving_worker()
        first.close()
        second, again = await scene.serving_worker(2)
        for handle in range(again.first_handle, again.first_handle + 3):
            await answered(scene, second, handle, f"text {handle - again.first_handle}")
        await consumer.hears("done")

        assert 3 == again.request.n
        assert {0: "text 0", 1: "text 1", 2: "text 2"} == consumer.texts
        assert 3 == sum(entry[0] == "finish" for entry in consumer.heard)
        assert 1 == consumer.attempts
        assert nothing_left(scene)


@pytest.mark.parametrize("n", [1, 2])
async def test_a_lost_tokenizer_is_replaced_though_there_is_one_worker(n: int) -> None:
    """The worker of a request whose tokenizer was lost goes on; its text is made elsewhere."""
    consumer = RecordingConsumer(delivers=False)
    async with scripted_scene(tokenizers=2, timing=QUICK) as scene:
        scene.generate(consumer, n=n)
        first = (await wrk.submitted(scene.worker)).first_handle
        other = await lose_tokenizer(scene)
        opens = await other.read_until("opens", n)
        for handle, entry in zip(range(first, first + n), opens, strict=True):
            await answered(scene, scene.worker, handle, "text", entry.handle)
        await consumer.hears("done")

        assert dict.fromkeys(range(n), "text") == consumer.texts
        assert [] == consumer.errors
        assert [] == wrk.aborted(scene.worker)
        assert nothing_left(scene)


async def test_a_tokenizer_lost_after_delivery_is_an_error_once() -> None:
    """As with a worker: an error for the caller, an abort for the worker."""
    consumer = RecordingConsumer()
    async with scripted_scene(tokenizers=1) as scene:
        scene.generate(consumer, n=2)
        handle = (await wrk.submitted(scene.worker)).first_handle
        await scene.tokenizer.send(tok.text(handle, "half", 1))
        await consumer.hears("text")
        scene.tokenizer.close()
        await consumer.hears("error")
        await scene.worker.read_until("aborted_handles", 2)

        assert [WORKER_LOST] == [error.reason for error in consumer.errors]
        assert nothing_left(scene)


async def test_a_tokenizer_that_shuts_down_is_replaced() -> None:
    """An open that a draining tokenizer refuses goes to another tokenizer."""
    consumer = RecordingConsumer()
    async with scripted_scene(tokenizers=2, timing=QUICK) as scene:
        scene.generate(consumer)
        handle = (await wrk.submitted(scene.worker)).first_handle
        used = next(i for i, link in enumerate(scene.backend._tokenizers) if link.num_outputs)
        frame = DetokenizeResponse()
        frame.failures.add(handle=handle).failure.reason = DRAINING
        await scene.tokenizer_streams[used].send(frame, draining=True)
        entry = await tok.opened(scene.tokenizer_streams[1 - used])
        await answered(scene, scene.worker, handle, "text", entry.handle)
        await consumer.hears("done")

        assert {0: "text"} == consumer.texts


async def test_a_failed_decoding_is_an_error_and_an_abort() -> None:
    """Any other failure of the tokenizer ends the request by name, and its worker is told."""
    consumer = RecordingConsumer()
    async with scripted_scene(workers=2, tokenizers=2) as scene:
        scene.generate(consumer)
        stream, submission = await scene.serving_worker()
        handle = submission.first_handle
        used = next(i for i, link in enumerate(scene.backend._tokenizers) if link.num_outputs)
        frame = DetokenizeResponse()
        failure = frame.failures.add(handle=handle).failure
        failure.reason = errors_pb2.ERROR_REASON_INCOMPATIBLE_PEER
        failure.message = "another tokenizer"
        await scene.tokenizer_streams[used].send(frame)
        await consumer.hears("error")
        await stream.read_until("aborted_handles")

        assert ["another tokenizer"] == [error.message for error in consumer.errors]
        assert nothing_left(scene)


@pytest.mark.parametrize("reason", [OVERLOADED, DRAINING])
async def test_a_busy_workers_refusal_moves_on(
    reason: "errors_pb2.ErrorReason.ValueType",
) -> None:
    """What one worker is too busy for another one may take: the caller notices nothing."""
    consumer = RecordingConsumer()
    async with scripted_scene(workers=2) as scene:
        scene.generate(consumer, n=2)
        first, submission = await scene.serving_worker()
        handle = submission.first_handle
        await first.send(wrk.refuse([handle, handle + 1], reason))
        second, again = await scene.serving_worker(2)
        for position in range(2):
            await answered(scene, second, again.first_handle + position, "text")
        await consumer.hears("done")

        assert second is not first
        assert [] == consumer.errors
        assert nothing_left(scene)


async def test_a_refusal_with_no_other_worker_is_the_original_error() -> None:
    """The caller hears why the only worker refused, not that there is no other."""
    consumer = RecordingConsumer()
    async with scripted_scene() as scene:
        scene.generate(consumer)
        handle = (await wrk.submitted(scene.worker)).first_handle
        await scene.worker.send(wrk.refuse([handle], OVERLOADED))
        await consumer.hears("error")

        assert [("overloaded", "refused by the test")] == [
            (error.label, error.message) for error in consumer.errors
        ]
        assert nothing_left(scene)


async def test_two_refusals_are_the_end() -> None:
    """The second worker's refusal is not passed on to a third."""
    consumer = RecordingConsumer()
    async with scripted_scene(workers=3) as scene:
        scene.generate(consumer)
        for count in (1, 2):
            stream, submission = await scene.serving_worker(count)
            await stream.send(wrk.refuse([submission.first_handle], OVERLOADED))
        await consumer.hears("error")

        assert [OVERLOADED] == [error.reason for error in consumer.errors]
        assert 2 == sum(len(stream.entries("submissions")) for stream in scene.worker_streams)


async def test_other_refusals_do_not_move() -> None:
    """A request that is wrong is wrong everywhere."""
    consumer = RecordingConsumer()
    async with scripted_scene(workers=2) as scene:
        scene.generate(consumer)
        stream, submission = await scene.serving_worker()
        reason = errors_pb2.ERROR_REASON_CONTEXT_LENGTH_EXCEEDED
        await stream.send(wrk.refuse([submission.first_handle], reason))
        await consumer.hears("error")

        assert [reason] == [error.reason for error in consumer.errors]
        assert 1 == sum(len(s.entries("submissions")) for s in scene.worker_streams)


async def test_one_failed_output_of_several_ends_the_request_once() -> None:
    """The other outputs are aborted, and the caller hears one error."""
    consumer = RecordingConsumer()
    async with scripted_scene() as scene:
        scene.generate(consumer, n=3)
        handle = (await wrk.submitted(scene.worker)).first_handle
        reason = errors_pb2.ERROR_REASON_ENGINE_FAILURE
        await scene.worker.send(wrk.refuse([handle + 1, handle + 2], reason))
        aborted = await scene.worker.read_until("aborted_handles")

        assert [reason] == [error.reason for error in consumer.errors]
        assert handle in aborted
        assert nothing_left(scene)

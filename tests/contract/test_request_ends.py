"""What ends a running request: its deadline, a stop string, its consumer."""

import asyncio

import pytest

from headrace.common.v1 import errors_pb2
from headrace.common.v1.finish_pb2 import FINISH_REASON_LENGTH
from tests.support import scripted_tokenizer as tok
from tests.support import scripted_worker as wrk
from tests.support.recording_consumer import RecordingConsumer
from tests.support.scripted_scene import nothing_left, scripted_scene, tokenizer_of

WORKER_LOST = errors_pb2.ERROR_REASON_WORKER_LOST
OVERLOADED = errors_pb2.ERROR_REASON_OVERLOADED
DRAINING = errors_pb2.ERROR_REASON_DRAINING


async def test_the_deadline_ends_a_request_on_both_links() -> None:
    """A request whose time runs out hears so once, and both peers are told."""
    consumer = RecordingConsumer()
    async with scripted_scene() as scene:
        deadline = asyncio.get_running_loop().time() + 0.5
        scene.generate(consumer, deadline=deadline)
        submission = await wrk.submitted(scene.worker)
        await consumer.hears("error")
        told = await scene.worker.read_until("abort_reasons")
        await scene.tokenizer.read_until("closes")

        assert 0 < submission.request.remaining_ms <= 500
        reasons = [error.reason for error in consumer.errors]
        assert [errors_pb2.ERROR_REASON_DEADLINE_EXCEEDED] == reasons == told
        assert [submission.first_handle] == tok.abandoned(scene.tokenizer)
        assert nothing_left(scene)


async def test_a_stop_string_ends_the_output_at_the_worker() -> None:
    """A stop hit finishes the output, aborts it at the worker, and drops it at the tokenizer."""
    consumer = RecordingConsumer()
    async with scripted_scene() as scene:
        scene.generate(consumer, stop_strings=("a", "b"))
        handle = (await wrk.submitted(scene.worker)).first_handle
        frame = tok.text(handle, "some", 4, 2)
        frame.stop_hits.add(handle=handle, stop_index=1, consumed_tokens=4)
        await scene.tokenizer.send(frame)
        reasons = await scene.worker.read_until("abort_reasons")
        await scene.tokenizer.read_until("closes")
        result = consumer.results[0]

        assert ("stop", 4, "b") == (
            result.finish_reason,
            result.completion_tokens,
            result.stop_string,
        )
        assert [handle] == wrk.aborted(scene.worker) == tok.abandoned(scene.tokenizer)
        assert [errors_pb2.ERROR_REASON_UNSPECIFIED] == reasons
        assert ("done",) == consumer.heard[-1]


async def test_a_flush_that_hits_a_stop_is_a_stop_and_no_stray() -> None:
    """The worker's length gives way to a stop string that the flush completes."""
    consumer = RecordingConsumer()
    async with scripted_scene() as scene:
        scene.generate(consumer, stop_strings=("a",))
        handle = (await wrk.submitted(scene.worker)).first_handle
        await scene.worker.send(wrk.tokens(handle, 11, 12))
        await scene.worker.send(wrk.end(handle, FINISH_REASON_LENGTH))
        await scene.tokenizer.read_until("closes")
        frame = tok.text(handle, "x", 2, 1)
        frame.stop_hits.add(handle=handle, stop_index=0, consumed_tokens=2)
        frame.closed_handles.append(handle)
        await scene.tokenizer.send(frame)
        await consumer.hears("done")
        result = consumer.results[0]

        assert ("stop", 2, "a") == (
            result.finish_reason,
            result.completion_tokens,
            result.stop_string,
        )
        assert [] == tok.abandoned(scene.tokenizer)
        assert nothing_left(scene)
        assert 0 == scene.backend._tokenizers[0].stray_entries


class _LeavingConsumer(RecordingConsumer):
    """Aborts its request from within a call, as a caller does whose socket breaks."""

    def __init__(self, at: str) -> None:
        super().__init__()
        self._at = at
        self.abort = lambda: None

    def _note(self, *entry: object) -> None:
        super()._note(*entry)
        if entry[0] == self._at:
            self.abort()


@pytest.mark.parametrize("at", ["started", "text", "finish"])
async def test_a_consumer_may_abort_from_within_any_call(at: str) -> None:
    """After its abort the consumer hears nothing more, and nothing is left open."""
    consumer = _LeavingConsumer(at)
    bystander = RecordingConsumer()
    async with scripted_scene() as scene:
        consumer.abort = scene.generate(consumer).abort
        scene.generate(bystander)
        handle, other = [
            entry.first_handle for entry in await scene.worker.read_until("submissions", 2)
        ]
        frame = wrk.start(handle, other)
        await scene.worker.send(frame)
        await scene.worker.send(wrk.end(other))
        if at == "finish":
            await scene.worker.send(wrk.end(handle))
        await tokenizer_of(scene, other)
        texts = tok.text(handle, "a", 1)
        texts.MergeFrom(tok.text(handle, "b", 2))
        texts.MergeFrom(tok.text(other, "c", 1))
        texts.closed_handles.extend([handle, other])
        await scene.tokenizer.send(texts)
        await bystander.hears("done")

        assert at == consumer.heard[-1][0]
        assert {0: "c"} == bystander.texts
        assert nothing_left(scene)


async def test_an_abort_while_the_text_is_flushed_drops_it() -> None:
    """After the worker's end and before the tokenizer's: it is abandoned, what comes is stray."""
    consumer = RecordingConsumer()
    async with scripted_scene() as scene:
        generation = scene.generate(consumer)
        handle = (await wrk.submitted(scene.worker)).first_handle
        await scene.worker.send(wrk.end(handle))
        await scene.tokenizer.read_until("closes")
        generation.abort()
        late = tok.text(handle, "late", 1)
        late.closed_handles.append(handle)
        await scene.tokenizer.send(late)
        closes = await scene.tokenizer.read_until("closes", 2)
        after = RecordingConsumer()
        scene.generate(after)
        other = (await wrk.submitted(scene.worker, 2)).first_handle
        await scene.tokenizer.send(tok.text(other, "on", 1))
        await after.hears("text")

        assert [handle, handle] == [entry.handle for entry in closes]
        assert [handle] == tok.abandoned(scene.tokenizer)
        assert [] == wrk.aborted(scene.worker)
        assert [] == consumer.heard
        assert 2 == scene.backend._tokenizers[0].stray_entries

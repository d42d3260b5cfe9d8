"""Outputs that workers give up and tokenizers that are lost in awkward moments, scripted."""

import asyncio

import pytest

from headrace.client.answer_events import ContentDelta
from headrace.common.v1 import errors_pb2
from headrace.rpc.errors import ServiceError
from headrace.rpc.limits import FrameTiming
from headrace.tokenizer.v1.detokenize_pb2 import OutputDelta
from tests.contract.test_continuation import begun, prefix, serving_tokenizer
from tests.support import scripted_tokenizer as tok
from tests.support import scripted_worker as wrk
from tests.support.recording_consumer import RecordingConsumer
from tests.support.scripted_scene import nothing_left, scripted_scene

DRAINING = errors_pb2.ERROR_REASON_DRAINING
OVERLOADED = errors_pb2.ERROR_REASON_OVERLOADED


async def test_all_outputs_that_a_worker_gives_up_at_once_go_on() -> None:
    """A worker at the end of its grace gives up every output of a request, none of which fails."""
    consumer = RecordingConsumer()
    async with scripted_scene(workers=2, continues=True) as scene:
        scene.generate(consumer, n=3)
        first, submission = await scene.serving_worker()
        handles = range(submission.first_handle, submission.first_handle + 3)
        for handle in handles:
            await first.send(wrk.tokens(handle, 10 * handle))
        await scene.tokenizer.read_until("token_ids", 3)
        await scene.tokenizer.send(tok.text(handles[0], "The", 1))
        await consumer.hears("text")
        await first.send(wrk.refuse(handles, DRAINING))
        second, _ = await scene.serving_worker(4)
        again = second.entries("submissions")
        for entry, handle in zip(again, handles, strict=True):
            await second.send(wrk.end(entry.first_handle))
            await scene.tokenizer.send(tok.closed(handle))
        await consumer.hears("done")

        assert second is not first
        assert [prefix(entry) for entry in again] == [[10 * handle] for handle in handles]
        assert [entry.request.output_index for entry in again] == [0, 1, 2]
        assert nothing_left(scene)


async def test_outputs_beside_a_refused_one_stay_where_they_are() -> None:
    """One output had ended, one is refused without a token: the third one's worker keeps it."""
    consumer = RecordingConsumer()
    async with scripted_scene(workers=2, continues=True) as scene:
        scene.generate(consumer, n=3)
        first, submission = await scene.serving_worker()
        ended, refused, staying = range(submission.first_handle, submission.first_handle + 3)
        await first.send(wrk.tokens(ended, 11))
        await first.send(wrk.end(ended))
        await scene.tokenizer.read_until("closes")
        frame = tok.text(ended, "one", 1)
        frame.closed_handles.append(ended)
        await scene.tokenizer.send(frame)
        await consumer.hears("finish")
        await first.send(wrk.refuse([refused], OVERLOADED))
        second, again = await scene.serving_worker(2)
        await first.send(wrk.tokens(staying, 31))
        await second.send(wrk.tokens(again.first_handle, 21))
        await first.send(wrk.end(staying))
        await second.send(wrk.end(again.first_handle))
        await scene.tokenizer.read_until("token_ids", 3)
        await scene.tokenizer.read_until("closes", 3)
        for handle, text in ((refused, "two"), (staying, "three")):
            frame = tok.text(handle, text, 1)
            frame.closed_handles.append(handle)
            await scene.tokenizer.send(frame)
        await consumer.hears("done")

        assert again.request.output_index == 1
        assert len(scene._submissions()) == 2
        assert wrk.aborted(first) == []
        assert consumer.texts == {0: "one", 1: "two", 2: "three"}
        assert nothing_left(scene)


async def test_logprobs_of_released_markup_survive_the_tokenizer() -> None:
    """Tokens that were released without an event are told with the next one, of another replica."""
    consumer = RecordingConsumer()
    async with scripted_scene(tokenizers=2, continues=True) as scene:
        scene.generate(consumer, "hermes", logprobs=0)
        handle = (await wrk.submitted(scene.worker)).first_handle
        await scene.worker.send(wrk.drawn(handle, -0.1, -0.2, -0.3, -0.4))
        lost = serving_tokenizer(scene)
        await lost.read_until("token_ids", 4)
        await lost.send(tok.spelling(handle, [b"A"]))
        await lost.send(tok.says(handle, 1, OutputDelta(content="A")))
        await consumer.hears("events")
        # The markup is out, and the next token is spelled but not acknowledged.
        await lost.send(tok.spelling(handle, [b"<x>", b""]))
        await lost.send(tok.says(handle, 3))
        await lost.send(tok.spelling(handle, [b"B"]))
        lost.close()
        other = next(stream for stream in scene.tokenizer_streams if stream is not lost)
        entry = await tok.opened(other)
        await other.send(tok.spelling(entry.handle, [b"B"]))
        await other.send(tok.says(entry.handle, 4, OutputDelta(content="B")))
        await scene.worker.send(wrk.end(handle))
        await other.read_until("closes")
        await other.send(tok.closed(entry.handle))
        await consumer.hears("done")

        assert entry.released_tokens == 3
        assert consumer.events() == [ContentDelta("A"), ContentDelta("B")]
        assert [(e.token, round(e.logprob, 1)) for e in consumer.logprobs[0]] == [
            (b"A", -0.1),
            (b"<x>", -0.2),
            (b"B", -0.4),
        ]
        assert nothing_left(scene)


async def test_an_output_is_reopened_without_waiting_for_its_worker() -> None:
    """What the lost tokenizer held back is due now, though the worker has nothing more to say."""
    consumer = RecordingConsumer()
    timing = FrameTiming(heartbeat_seconds=40, silence_seconds=50)
    async with scripted_scene(tokenizers=2, timing=timing, continues=True) as scene:
        scene.generate(consumer)
        _, handle = await begun(scene, consumer, 11, 12, released=1)
        lost = serving_tokenizer(scene)
        lost.close()
        other = next(stream for stream in scene.tokenizer_streams if stream is not lost)
        async with asyncio.timeout(20):
            entry = await tok.opened(other)

        assert entry.handle > handle
        assert (list(entry.prior_token_ids), entry.released_tokens) == ([11, 12], 1)


class BrokenConsumer(RecordingConsumer):
    """Fails where it is told of an error."""

    def on_error(self, error: ServiceError) -> None:
        super().on_error(error)
        raise LookupError("a bug of this consumer's")


@pytest.mark.parametrize("kind", ["worker", "tokenizer"])
async def test_a_request_that_cannot_be_told_of_a_loss_costs_no_other_one(kind: str) -> None:
    """All of the lost peer's requests hear of it, whatever happens to the first of them."""
    broken, sound = BrokenConsumer(), RecordingConsumer()
    async with scripted_scene() as scene:
        for consumer in (broken, sound):
            scene.generate(consumer)
        await scene.serving_worker(2)
        stream = scene.worker if kind == "worker" else scene.tokenizer
        stream.close()
        for consumer in (broken, sound):
            await consumer.hears("error")

        assert nothing_left(scene)


async def test_two_tokenizers_that_crash_with_an_output_are_its_end() -> None:
    """It may be the reason: the third one, and whoever is served there, are spared."""
    consumer = RecordingConsumer()
    async with scripted_scene(tokenizers=3, continues=True) as scene:
        scene.generate(consumer)
        await begun(scene, consumer, 11, 12, released=1)
        lost = serving_tokenizer(scene)
        lost.close()
        others = [stream for stream in scene.tokenizer_streams if stream is not lost]
        opens = [asyncio.create_task(tok.opened(stream)) for stream in others]
        _, waiting = await asyncio.wait(opens, return_when=asyncio.FIRST_COMPLETED)
        for wait in waiting:
            wait.cancel()
        serving_tokenizer(scene).close()
        await consumer.hears("error")

        assert [error.label for error in consumer.errors] == ["worker_lost"]
        assert consumer.errors[0].is_final
        assert nothing_left(scene)

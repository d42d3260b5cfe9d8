"""Spans of attempts whose outputs part: one for each time that a worker is given some of them."""

from typing import Any

from headrace.common.v1 import errors_pb2
from headrace.telemetry import names
from tests.contract.test_backend_spans import CALLER, ends, failed, generate_spans
from tests.support import scripted_tokenizer as tok
from tests.support import scripted_worker as wrk
from tests.support.recording_consumer import RecordingConsumer
from tests.support.scripted_scene import Scene, scripted_scene
from tests.support.scripted_stream import ScriptedStream
from tests.support.span_recorder import RecordedSpan, SpanRecorder

OVERLOADED = errors_pb2.ERROR_REASON_OVERLOADED
OK = ("OK", None)


def figures(span: RecordedSpan) -> tuple[Any, ...]:
    """Outputs and tokens of an attempt."""
    return span.attributes[names.OUTPUTS], span.attributes[names.OUTPUT_TOKENS]


async def ended(scene: Scene, worker: ScriptedStream, handle: int, tokens: int) -> None:
    """Have an output of so many tokens end that has not moved."""
    await worker.send(wrk.end(handle))
    frame = tok.text(handle, "text", tokens)
    frame.closed_handles.append(handle)
    await scene.tokenizer.send(frame)


async def test_an_output_that_moves_ends_no_span_of_those_that_stay() -> None:
    """Theirs ends with the last of them, and has what the moved one had made there."""
    recorder, consumer = SpanRecorder(), RecordingConsumer()
    async with scripted_scene(workers=2, tracing=recorder, continues=True) as scene:
        scene.generate(consumer, trace=CALLER, n=3)
        first, submission = await scene.serving_worker()
        one, moving, three = range(submission.first_handle, submission.first_handle + 3)
        for handle in (one, moving, three):
            await first.send(wrk.start(handle))
            await first.send(wrk.tokens(handle, 11, 12))
        await first.send(wrk.refuse([moving], OVERLOADED))
        second, again = await scene.serving_worker(2)
        assert recorder.unended == [names.GENERATE_METHOD] * 2
        await ended(scene, first, one, 2)
        await consumer.hears("finish")
        assert len(recorder.unended) == 2
        await first.send(wrk.tokens(three, 13))
        await ended(scene, first, three, 3)
        await consumer.hears("finish", times=2)
        assert recorder.unended == [names.GENERATE_METHOD]
        await second.send(wrk.start(again.first_handle))
        await second.send(wrk.tokens(again.first_handle, 13, 14))
        await second.send(wrk.end(again.first_handle))
        frame = tok.text(moving, "text", 4)
        frame.closed_handles.append(moving)
        await scene.tokenizer.send(frame)
        await consumer.hears("done")
        spans = generate_spans(recorder)
        retries = scene.backend.retries

    assert ends(spans) == [(1, "RESOURCE_EXHAUSTED", failed("overloaded")), (2, *OK)]
    assert [figures(span) for span in spans] == [(3, 2 + 2 + 3), (1, 2)]
    assert [span.context.traceparent for span in spans] == [
        submission.request.traceparent,
        again.request.traceparent,
    ]
    assert retries == {"overloaded": 1}


async def test_outputs_that_move_together_are_one_attempt() -> None:
    """One was over and two are lost with their worker: a span of three outputs, and one of two."""
    recorder, consumer = SpanRecorder(), RecordingConsumer()
    async with scripted_scene(workers=2, tracing=recorder, continues=True) as scene:
        generation = scene.generate(consumer, trace=CALLER, n=3)
        first, submission = await scene.serving_worker()
        one, two, three = range(submission.first_handle, submission.first_handle + 3)
        for handle in (one, two, three):
            await first.send(wrk.tokens(handle, 11))
        await ended(scene, first, one, 1)
        await consumer.hears("finish")
        first.close()
        second, _ = await scene.serving_worker(3)
        again = second.entries("submissions")
        assert recorder.unended == [names.GENERATE_METHOD]
        await second.send(wrk.tokens(again[0].first_handle, 12, 13))
        await scene.tokenizer.send(tok.text(two, "text", 3))
        await consumer.hears("text", times=2)
        generation.abort()
        spans = generate_spans(recorder)

    assert ends(spans) == [
        (1, "UNAVAILABLE", failed("worker_lost")),
        (2, "CANCELLED", failed("client_cancelled")),
    ]
    assert [figures(span) for span in spans] == [(3, 3), (2, 2)]
    assert {entry.request.traceparent for entry in again} == {spans[1].context.traceparent}


async def test_what_only_lacks_its_last_text_is_not_lost_with_its_worker() -> None:
    """The worker goes behind the last word of it: the attempt has ended well."""
    recorder, consumer, lost = SpanRecorder(), RecordingConsumer(), RecordingConsumer()
    async with scripted_scene(tracing=recorder) as scene:
        scene.generate(consumer, trace=CALLER)
        handle = (await wrk.submitted(scene.worker)).first_handle
        scene.generate(lost, trace=CALLER)
        await scene.worker.send(wrk.tokens(handle, 11))
        await scene.worker.send(wrk.end(handle))
        await scene.tokenizer.read_until("closes")
        scene.worker.close()
        await lost.hears("error")
        frame = tok.text(handle, "text", 1)
        frame.closed_handles.append(handle)
        await scene.tokenizer.send(frame)
        await consumer.hears("done")
        spans = generate_spans(recorder)

    assert ends(spans) == [(1, *OK), (1, "UNAVAILABLE", failed("worker_lost"))]
    assert [figures(span) for span in spans] == [(1, 1), (1, 0)]


async def test_what_cannot_be_sent_on_ends_every_span() -> None:
    """A continuation that is too large for its worker: the lost attempt's and its own."""
    recorder, consumer = SpanRecorder(), RecordingConsumer()
    async with scripted_scene(workers=2, tracing=recorder, continues=True) as scene:
        scene.generate(consumer, trace=CALLER, n=2)
        first, submission = await scene.serving_worker()
        for handle in (submission.first_handle, submission.first_handle + 1):
            await first.send(wrk.tokens(handle, 11))
        await scene.tokenizer.read_until("token_ids", 2)
        other = scene.backend._workers[1 - scene.worker_streams.index(first)]
        other._max_message_bytes = 1024
        first.close()
        await consumer.hears("error")
        spans = generate_spans(recorder)

    assert ends(spans) == [
        (1, "UNAVAILABLE", failed("worker_lost")),
        (2, "INVALID_ARGUMENT", failed("request_too_large")),
    ]
    assert [figures(span) for span in spans] == [(2, 2), (2, 0)]

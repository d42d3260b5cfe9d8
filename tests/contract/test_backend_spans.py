"""Spans of the client's calls: one a try, ended at once and once, whichever way the call ends."""

import asyncio
from typing import Any

import pytest

from headrace.client.prompt_request import ChatMessage, PromptRequest
from headrace.common.v1 import errors_pb2
from headrace.rpc.errors import ServiceError
from headrace.telemetry import names
from headrace.telemetry.spans import SpanKind
from headrace.telemetry.trace_context import TraceContext
from headrace.tokenizer.v1.detokenize_pb2 import DetokenizeFailure, DetokenizeResponse
from tests.support import scripted_tokenizer as tok
from tests.support import scripted_worker as wrk
from tests.support.recording_consumer import RecordingConsumer
from tests.support.scripted_scene import Scene, scripted_scene
from tests.support.span_recorder import RecordedSpan, SpanRecorder

CALLER = TraceContext(f"00-{'a' * 32}-{'b' * 16}-01", "a=1")
HELLO = PromptRequest(wrk.MODEL, (ChatMessage("user", "hello"),))
RPC_NAMES = (names.RPC_SYSTEM, names.RPC_METHOD, names.RPC_STATUS)


def generate_spans(recorder: SpanRecorder) -> list[RecordedSpan]:
    """The attempts, all of which have ended."""
    assert [] == recorder.unended
    return recorder.named(names.GENERATE_METHOD)


def ends(spans: list[RecordedSpan]) -> list[tuple[Any, ...]]:
    """Attempt, status and error of each."""
    return [
        (span.attributes[names.ATTEMPT], span.attributes[names.RPC_STATUS], span.error)
        for span in spans
    ]


def failed(label: str) -> tuple[str, str]:
    """An error without a message: those may quote what was asked."""
    return (label, "")


async def running(scene: Scene, consumer: RecordingConsumer, **options: Any) -> Any:
    """A request whose worker has it; with its generation."""
    generation = scene.generate(consumer, trace=CALLER, **options)
    stream, submission = await scene.serving_worker()
    return generation, stream, submission


async def test_an_attempt_is_a_span_that_the_worker_is_told_of() -> None:
    """Names, parent, peer and counts of an answer that ends well; the context goes with it."""
    recorder, consumer = SpanRecorder(), RecordingConsumer()
    async with scripted_scene(tracing=recorder) as scene:
        _, stream, submission = await running(scene, consumer)
        handle = submission.first_handle
        await stream.send(wrk.start(handle))
        await stream.send(wrk.tokens(handle, 11))
        await stream.send(wrk.end(handle))
        await scene.tokenizer.read_until("closes")
        frame = tok.text(handle, "whole", 1)
        frame.closed_handles.append(handle)
        await scene.tokenizer.send(frame)
        await consumer.hears("done")
        (span,) = generate_spans(recorder)
        port = scene.workers[0].address.rpartition(":")[2]

    assert (SpanKind.CLIENT, "a" * 32, "b" * 16) == (span.kind, span.trace_id, span.parent_id)
    assert span.context.traceparent == submission.request.traceparent
    assert "a=1" == submission.request.tracestate
    assert {
        "rpc.system.name": "grpc",
        "rpc.method": "headrace.worker.v1.GenerationService/Generate",
        "rpc.response.status_code": "OK",
        "server.address": "127.0.0.1",
        "server.port": int(port),
        "headrace.peer.address": f"127.0.0.1:{port}",
        "headrace.request.id": "r1",
        "headrace.attempt": 1,
        "headrace.outputs": 1,
        "headrace.prefill.cached_tokens": 1,
        "headrace.decode.output_tokens": 1,
    } == span.attributes
    assert span.error is None


async def test_an_abort_ends_the_attempt_at_once_and_once() -> None:
    """Whoever leaves is told from whoever failed; a second abort says nothing new."""
    recorder = SpanRecorder()
    async with scripted_scene(tracing=recorder) as scene:
        generation, _, _ = await running(scene, RecordingConsumer())
        generation.abort()
        ended = ends(generate_spans(recorder))
        generation.abort(ServiceError(errors_pb2.ERROR_REASON_DRAINING, "too late"))

        assert [(1, "CANCELLED", failed("client_cancelled"))] == ended
        assert ended == ends(generate_spans(recorder))


async def test_an_abort_may_say_why() -> None:
    """What its owner ended for a reason of its own carries that reason."""
    recorder = SpanRecorder()
    async with scripted_scene(tracing=recorder) as scene:
        generation, _, _ = await running(scene, RecordingConsumer())
        generation.abort(ServiceError(errors_pb2.ERROR_REASON_DRAINING, "shutting down"))

        assert [(1, "UNAVAILABLE", failed("draining"))] == ends(generate_spans(recorder))


@pytest.mark.parametrize(
    ("why", "told"),
    [
        (errors_pb2.ERROR_REASON_SLOW_READER, errors_pb2.ERROR_REASON_SLOW_READER),
        (errors_pb2.ERROR_REASON_DEADLINE_EXCEEDED, errors_pb2.ERROR_REASON_DEADLINE_EXCEEDED),
        (errors_pb2.ERROR_REASON_DRAINING, errors_pb2.ERROR_REASON_CLIENT_CANCELLED),
    ],
)
async def test_a_worker_is_told_why_as_far_as_it_concerns_it(why: Any, told: Any) -> None:
    """A client that was dropped, and a deadline; anything else is that nobody wants it any more."""
    async with scripted_scene() as scene:
        generation, stream, _ = await running(scene, RecordingConsumer())
        generation.abort(ServiceError(why, "no more"))

        assert [told] == await stream.read_until("abort_reasons")


async def test_a_deadline_ends_the_attempt() -> None:
    """The span has the deadline's status, whatever the worker would have said."""
    recorder, consumer = SpanRecorder(), RecordingConsumer()
    async with scripted_scene(tracing=recorder) as scene:
        deadline = asyncio.get_running_loop().time() + 0.05
        scene.generate(consumer, trace=CALLER, deadline=deadline)
        await consumer.hears("error")

        assert [(1, "DEADLINE_EXCEEDED", failed("deadline_exceeded"))] == ends(
            generate_spans(recorder)
        )


async def test_a_lost_worker_ends_its_attempt_and_the_next_is_the_second() -> None:
    """Each attempt has its own span and context; both belong to the same parent."""
    recorder, consumer = SpanRecorder(), RecordingConsumer(delivers=False)
    async with scripted_scene(workers=2, tracing=recorder) as scene:
        generation, first, submission = await running(scene, consumer)
        await first.send(wrk.start(submission.first_handle))
        await consumer.hears("started")
        first.close()
        second, again = await scene.serving_worker(2)
        assert [names.GENERATE_METHOD] == recorder.unended
        second.close()
        await consumer.hears("error")
        spans = generate_spans(recorder)
        retries = scene.backend.retries

    lost = ("UNAVAILABLE", failed("worker_lost"))
    assert [(1, *lost), (2, *lost)] == ends(spans)
    assert [CALLER.traceparent[36:52]] * 2 == [span.parent_id for span in spans]
    assert [spans[0].context.traceparent, spans[1].context.traceparent] == [
        submission.request.traceparent,
        again.request.traceparent,
    ]
    assert spans[0].attributes[names.PEER_ADDRESS] != spans[1].attributes[names.PEER_ADDRESS]
    assert ({"worker_lost": 1}, 2) == (retries, generation.timeline.attempts)
    assert generation.timeline.started is None


async def test_an_attempt_that_begins_anew_is_one_retry() -> None:
    """Tokens that no other worker can go on behind are forgotten, and counted as one loss."""
    recorder, consumer = SpanRecorder(), RecordingConsumer(delivers=False)
    async with scripted_scene(workers=2, tracing=recorder) as scene:
        _, first, submission = await running(scene, consumer)
        await first.send(wrk.start(submission.first_handle))
        await first.send(wrk.tokens(submission.first_handle, 11))
        await scene.tokenizer.read_until("token_ids")
        await scene.tokenizer.send(tok.text(submission.first_handle, "half", 1))
        await consumer.hears("text")
        first.close()
        await scene.serving_worker(2)

        assert {"worker_lost": 1} == scene.backend.retries
        (ended, _) = recorder.named(names.GENERATE_METHOD)
        assert (failed("worker_lost"), 1) == (ended.error, ended.attributes[names.OUTPUT_TOKENS])


async def test_a_second_attempt_that_cannot_be_sent_has_its_own_end() -> None:
    """The request fails for what ended the first attempt, the second span for what ended it."""
    recorder, consumer = SpanRecorder(), RecordingConsumer(delivers=False)
    async with scripted_scene(workers=2, tracing=recorder) as scene:
        _, first, _ = await running(scene, consumer)
        other = scene.backend._workers[1 - scene.worker_streams.index(first)]
        other._max_message_bytes = 1024
        first.close()
        await consumer.hears("error")

        assert [
            (1, "UNAVAILABLE", failed("worker_lost")),
            (2, "INVALID_ARGUMENT", failed("request_too_large")),
        ] == ends(generate_spans(recorder))
    assert ["worker_lost"] == [error.label for error in consumer.errors]


async def test_a_workers_failure_ends_the_attempt() -> None:
    """An error frame of the worker's is the attempt's status."""
    recorder, consumer = SpanRecorder(), RecordingConsumer()
    async with scripted_scene(tracing=recorder) as scene:
        _, stream, submission = await running(scene, consumer)
        await stream.send(
            wrk.refuse([submission.first_handle], errors_pb2.ERROR_REASON_ENGINE_FAILURE)
        )
        await consumer.hears("error")

        assert [(1, "INTERNAL", failed("engine_failure"))] == ends(generate_spans(recorder))


async def test_a_tokenizers_failure_ends_the_attempt() -> None:
    """What the tokenizer cannot say ends the request, and with it the worker's part."""
    recorder, consumer = SpanRecorder(), RecordingConsumer()
    async with scripted_scene(tracing=recorder) as scene:
        _, _, submission = await running(scene, consumer)
        failure = errors_pb2.Failure(reason=errors_pb2.ERROR_REASON_OVERLOADED, message="full")
        entry = DetokenizeFailure(handle=submission.first_handle, failure=failure)
        await scene.tokenizer.send(DetokenizeResponse(failures=[entry]))
        await consumer.hears("error")

        assert [(1, "RESOURCE_EXHAUSTED", failed("overloaded"))] == ends(generate_spans(recorder))


async def test_the_end_of_the_client_leaves_no_span() -> None:
    """Streams that end with the process end what was on them."""
    recorder = SpanRecorder()
    async with scripted_scene(tracing=recorder) as scene:
        await running(scene, RecordingConsumer())

    assert [(1, "UNAVAILABLE", failed("worker_lost"))] == ends(generate_spans(recorder))


async def test_what_cannot_be_sent_ends_its_span() -> None:
    """A request that no frame holds is refused, and its attempt with it."""
    recorder = SpanRecorder()
    async with scripted_scene(tracing=recorder) as scene:
        with pytest.raises(ServiceError):
            scene.generate(RecordingConsumer(), cache_salt="x" * 2**24)

        assert [(1, "INVALID_ARGUMENT", failed("request_too_large"))] == ends(
            generate_spans(recorder)
        )


async def test_render_is_a_span_that_the_tokenizer_is_told_of() -> None:
    """The call's metadata carry the span's context and the request's id."""
    recorder = SpanRecorder()
    async with scripted_scene(tracing=recorder) as scene:
        await scene.backend.render(HELLO, timeout_seconds=5, trace=CALLER, request_id="r7")
        (metadata,) = scene.tokenizers[0].render_metadata
        (span,) = recorder.named(names.RENDER_METHOD)

    assert (SpanKind.CLIENT, "b" * 16) == (span.kind, span.parent_id)
    assert (span.context.traceparent, "a=1", "r7") == (
        metadata["traceparent"],
        metadata["tracestate"],
        metadata["x-request-id"],
    )
    assert ["grpc", names.RENDER_METHOD, "OK"] == [span.attributes[name] for name in RPC_NAMES]
    assert (1, "r7", None, []) == (
        span.attributes[names.ATTEMPT],
        span.attributes[names.REQUEST_ID],
        span.error,
        recorder.unended,
    )


async def _rendering(scene: Scene, seconds: float, *, caller_waits: bool = True) -> Any:
    """A Render that no tokenizer answers, at one or out of time; or a caller that is as hasty."""
    for tokenizer in scene.tokenizers:
        tokenizer.render_gate.clear()
    call = scene.backend.render(HELLO, timeout_seconds=seconds)
    task = asyncio.create_task(call if caller_waits else asyncio.wait_for(call, seconds))
    waits = [asyncio.create_task(each.rendering.wait()) for each in scene.tokenizers]
    await asyncio.wait([task, *waits], return_when=asyncio.FIRST_COMPLETED)
    for wait in waits:
        wait.cancel()
    return task


@pytest.mark.parametrize("way", ["cancelled", "deadline", "both"])
async def test_a_render_that_ends_early_ends_its_span(way: str) -> None:
    """Its status is CANCELLED for whoever left, and the deadline's for a deadline."""
    recorder = SpanRecorder()
    async with scripted_scene(tracing=recorder) as scene:
        seconds = 5 if way == "cancelled" else 0.2
        task = await _rendering(scene, seconds, caller_waits=way != "both")
        if way == "cancelled":
            task.cancel()
        await asyncio.wait([task])
        assert [] == recorder.unended
        found = ends(recorder.named(names.RENDER_METHOD))

    assert [
        (1, "CANCELLED", failed("client_cancelled"))
        if way == "cancelled"
        else (1, "DEADLINE_EXCEEDED", failed("deadline_exceeded"))
    ] == found
    assert task.cancelled() == (way == "cancelled")


async def test_a_render_that_is_tried_again_has_two_spans() -> None:
    """The lost try and the other one, in their order."""
    recorder = SpanRecorder()
    async with scripted_scene(tokenizers=2, tracing=recorder) as scene:
        task = await _rendering(scene, 5)
        used = next(i for i, each in enumerate(scene.tokenizers) if each.rendering.is_set())
        scene.tokenizers[1 - used].render_gate.set()
        scene.tokenizer_streams[used].close()
        await asyncio.wait_for(task, 5)
        found = ends(recorder.named(names.RENDER_METHOD))
        retries = scene.backend.retries

    assert [(1, "UNAVAILABLE", failed("no_worker_available")), (2, "OK", None)] == found
    assert {"no_worker_available": 1} == retries

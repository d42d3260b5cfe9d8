"""The frame contract at the edge's end, against scripted workers and tokenizers."""

import asyncio

import pytest
import structlog

from headrace.client.answers import AnswerTimes
from headrace.client.backend import GrpcChatBackend
from headrace.client.prompt_request import ChatMessage, PromptRequest
from headrace.common.v1 import errors_pb2
from headrace.common.v1.finish_pb2 import FINISH_REASON_LENGTH, FINISH_REASON_STOP
from headrace.common.v1.frames_pb2 import Hello
from headrace.rpc.errors import ServiceError
from headrace.rpc.limits import FrameTiming
from headrace.tokenizer.v1.detokenize_pb2 import DetokenizeResponse
from headrace.worker.v1.attach_pb2 import AttachRequest, AttachResponse
from headrace.worker.v1.generation_pb2 import Started
from tests.support import scripted_tokenizer as tok
from tests.support import scripted_worker as wrk
from tests.support.engines import ScriptedEngine
from tests.support.raw_attach import RawAttach, running_worker
from tests.support.recording_consumer import RecordingConsumer
from tests.support.scripted_scene import generation_options, scripted_scene
from tests.support.scripted_tokenizer import scripted_tokenizer
from tests.support.scripted_worker import scripted_worker

FAST = FrameTiming(heartbeat_seconds=0.1, silence_seconds=0.5, hello_seconds=0.5)


async def test_the_edge_says_hello_first_and_only_once() -> None:
    """The edge's first frame on either stream, and only that, carries its hello."""
    async with scripted_scene(timing=FAST) as scene:
        for stream in (scene.worker, scene.tokenizer):
            first, second = await stream.read(), await stream.read()

            assert 1 == first.header.hello.protocol_version
            assert 16 * 1024 * 1024 == first.header.hello.max_message_bytes
            assert not second.header.HasField("hello")
            assert (1, 2) == (first.header.sequence, second.header.sequence)


async def test_hello_is_logged_with_build_instance_and_features() -> None:
    """Both ends log who speaks to them; features that are not known are ignored."""
    with structlog.testing.capture_logs() as logs:
        async with running_worker(ScriptedEngine()) as worker:
            raw = RawAttach(worker.stub)
            frame = AttachRequest()
            frame.header.hello.CopyFrom(
                Hello(protocol_version=1, build="b", instance_id="i", features=["unheard-of"])
            )
            await raw.send(frame, greet=False)
            await raw.submit(1)
            await raw.read_until("accepted_handles")

    greeted = next(entry for entry in logs if entry["event"] == "peer_greeted")
    assert ("b", "i", ["unheard-of"]) == (
        greeted["build"],
        greeted["instance_id"],
        greeted["features"],
    )


async def test_heartbeats_of_the_edge_acknowledge() -> None:
    """Without traffic the edge sends frames with the last sequence number that it received."""
    async with scripted_scene(timing=FAST) as scene:
        await scene.worker.send()
        await scene.worker.send()
        while (await scene.worker.read()).header.last_received_sequence < 3:
            pass


async def test_nothing_is_asked_of_a_peer_before_its_hello() -> None:
    """A worker that has not said hello is not ready, and takes no request."""
    async with scripted_worker() as worker, scripted_tokenizer() as tokenizer:
        backend = GrpcChatBackend([worker.address], [tokenizer.address])
        await backend.start()
        try:
            stream = await worker.opened.get()
            await tokenizer.greeted()
            await stream.read()

            assert not backend.is_ready
            assert 1 == len(stream.frames)
        finally:
            await backend.stop()


async def test_a_peer_without_hello_is_given_up() -> None:
    """A stream on which no hello comes is ended after the hello limit and opened anew."""
    async with scripted_worker() as worker:
        backend = GrpcChatBackend([worker.address], [], FAST)
        await backend.start()
        try:
            await worker.opened.get()
            second = await worker.opened.get()

            assert second is not worker.streams[0]
        finally:
            await backend.stop()


async def test_an_unknown_protocol_of_a_worker_is_refused_by_name() -> None:
    """The edge ends a stream of another protocol version, naming both; it serves nothing there."""
    async with scripted_worker() as worker:
        backend = GrpcChatBackend([worker.address], [])
        link = backend._workers[0]
        serving = asyncio.create_task(link._serve_once())
        stream = await worker.opened.get()
        await stream.greet(version=99)
        why = await serving
        await backend.stop()

    assert "99" in why
    assert "speaks 1" in why
    assert not link.is_serving


@pytest.mark.parametrize(
    "frame",
    [
        AttachResponse(handles=[1, 2], counts=[1], token_ids=[7]),
        AttachResponse(handles=[1], counts=[2], token_ids=[7]),
        AttachResponse(handles=[1], token_ids=[7]),
        AttachResponse(counts=[1], token_ids=[7]),
        AttachResponse(token_ids=[7]),
    ],
)
async def test_contradicting_arrays_of_a_worker_end_the_stream(frame: AttachResponse) -> None:
    """Token arrays that do not fit together end the stream, and the edge opens another."""
    async with scripted_scene() as scene:
        await scene.worker.send(frame)
        again = await scene.workers[0].opened.get()

        assert again is not scene.worker


@pytest.mark.parametrize(
    "frame",
    [
        DetokenizeResponse(handles=[1], consumed_tokens=[1], released_tokens=[1]),
        DetokenizeResponse(handles=[1], consumed_tokens=[1], deltas=["a"]),
        DetokenizeResponse(deltas=["a"]),
        DetokenizeResponse(released_tokens=[1]),
    ],
)
async def test_contradicting_arrays_of_a_tokenizer_end_the_stream(
    frame: DetokenizeResponse,
) -> None:
    """Text arrays that do not fit together end the stream, and the edge opens another."""
    async with scripted_scene() as scene:
        await scene.tokenizer.send(frame)
        again = await scene.tokenizers[0].opened.get()

        assert again is not scene.tokenizer


@pytest.mark.parametrize("field", ["sequence", "last_received_sequence"])
async def test_wrong_numbers_of_a_worker_end_the_stream(field: str) -> None:
    """A gap in the numbering, or an acknowledgement of what was never sent, ends the stream."""
    async with scripted_scene() as scene:
        frame = AttachResponse()
        frame.header.sequence = 2
        setattr(frame.header, field, 1000)
        await scene.worker._context.write(frame)
        again = await scene.workers[0].opened.get()

        assert again is not scene.worker


async def test_strays_of_a_worker_are_ignored_and_counted() -> None:
    """What a worker says of unknown outputs changes nothing but a counter; the rest is taken."""
    consumer = RecordingConsumer()
    async with scripted_scene() as scene:
        scene.generate(consumer)
        handle = (await wrk.submitted(scene.worker)).first_handle
        frame = AttachResponse(
            started=[Started(handle=99), Started(handle=handle)],
            handles=[99, handle, 98],
            counts=[2, 1, 1],
            token_ids=[1, 2, 3, 4],
        )
        frame.terminals.add(handle=97, finish_reason=FINISH_REASON_STOP)
        await scene.worker.send(frame)
        await scene.tokenizer.read_until("token_ids")
        link = scene.backend._workers[0]

        assert 4 == link.stray_entries
        assert [handle] == scene.tokenizer.entries("handles")
        assert [3] == scene.tokenizer.entries("token_ids")


async def test_strays_of_a_tokenizer_are_ignored_and_counted() -> None:
    """What a tokenizer says of unknown outputs changes nothing but a counter."""
    consumer = RecordingConsumer()
    async with scripted_scene() as scene:
        scene.generate(consumer)
        handle = (await wrk.submitted(scene.worker)).first_handle
        frame = tok.text(99, "no", 1)
        frame.stop_hits.add(handle=98)
        frame.closed_handles.append(97)
        frame.failures.add(handle=96)
        await scene.tokenizer.send(frame)
        await scene.tokenizer.send(tok.text(handle, "yes", 1))
        await consumer.hears("text")

        assert 4 == scene.backend._tokenizers[0].stray_entries
        assert {0: "yes"} == consumer.texts


async def test_frames_of_several_workers_merge_into_one() -> None:
    """Token frames of all workers that wait go to the tokenizer as one Detokenize frame."""
    async with scripted_scene(workers=3) as scene:
        consumers = [RecordingConsumer() for _ in range(3)]
        for consumer in consumers:
            scene.generate(consumer)
        handles = {
            stream: (await wrk.submitted(stream)).first_handle for stream in scene.worker_streams
        }
        links = scene.backend._workers
        for link, (stream, handle) in zip(links, handles.items(), strict=True):
            del stream
            link._on_frame(wrk.tokens(handle, 11, 12))  # all within one loop turn
        fed = await scene.tokenizer.read_until("token_ids", 6)
        frames = [frame for frame in scene.tokenizer.frames if frame.token_ids]

    assert 6 == len(fed)
    assert 1 == len(frames)
    assert sorted(handles.values()) == sorted(frames[0].handles)


async def test_entries_go_to_the_tokenizer_that_has_the_output() -> None:
    """With several tokenizers a worker's frame is split by where its outputs are open."""
    async with scripted_scene(tokenizers=2) as scene:
        for _ in range(2):
            scene.generate(RecordingConsumer())
        await scene.worker.read_until("submissions", 2)
        frame = AttachResponse(handles=[1, 2], counts=[2, 1], token_ids=[11, 12, 21])
        await scene.worker.send(frame)
        seen = {}
        for stream in scene.tokenizer_streams:
            entry = await tok.opened(stream)
            await stream.read_until("token_ids")
            seen[entry.handle] = list(stream.entries("token_ids"))

    assert {1: [11, 12], 2: [21]} == seen


async def test_a_request_too_large_for_the_worker_is_refused_before_sending() -> None:
    """What exceeds the worker's announced largest message never reaches the stream."""
    consumer = RecordingConsumer()
    async with scripted_worker() as worker, scripted_tokenizer() as tokenizer:
        backend = GrpcChatBackend([worker.address], [tokenizer.address])
        await backend.start()
        try:
            await (await worker.opened.get()).greet(max_message_bytes=2000)
            await tokenizer.greeted()
            await backend.ready()
            prompt = await backend.render(PromptRequest("tiny", ()), timeout_seconds=5)
            prompt.token_ids.extend([50_000] * 1000)
            with pytest.raises(ServiceError) as caught:
                backend.generate(prompt, generation_options(), consumer)

            assert errors_pb2.ERROR_REASON_REQUEST_TOO_LARGE == caught.value.reason
            assert "2000" in caught.value.message
            assert 0 == backend._workers[0].num_outputs + backend._tokenizers[0].num_outputs
            assert [] == consumer.heard
        finally:
            await backend.stop()


async def test_this_ends_own_limit_holds_too() -> None:
    """A worker that announces more than gRPC lets out here does not change the limit."""
    async with scripted_worker() as worker:
        backend = GrpcChatBackend([worker.address], [])
        await backend.start()
        try:
            await (await worker.opened.get()).greet(max_message_bytes=2**40)
            await backend._workers[0].connected.wait()

            assert 16 * 1024 * 1024 == backend._workers[0]._max_message_bytes
        finally:
            await backend.stop()


async def test_an_open_too_large_for_the_tokenizer_is_refused_before_sending() -> None:
    """Stop strings beyond the tokenizer's largest message fail that request alone."""
    consumer = RecordingConsumer()
    async with scripted_scene() as scene:
        with pytest.raises(ServiceError) as caught:
            scene.generate(consumer, stop_strings=("x" * 17_000_000,))
        scene.generate(consumer)
        await wrk.submitted(scene.worker)

        assert errors_pb2.ERROR_REASON_REQUEST_TOO_LARGE == caught.value.reason
        assert 1 == scene.backend._workers[0].num_outputs
        assert 1 == scene.backend._tokenizers[0].num_outputs


async def test_a_conversation_too_large_to_render_is_refused_before_sending() -> None:
    """The same limit holds on the unary call."""
    async with scripted_scene() as scene:
        messages = [ChatMessage("user", "x" * 17_000_000)]
        with pytest.raises(ServiceError) as caught:
            await scene.backend.render(PromptRequest("tiny", tuple(messages)), timeout_seconds=5)

        assert errors_pb2.ERROR_REASON_REQUEST_TOO_LARGE == caught.value.reason
        assert not scene.tokenizers[0].rendering.is_set()


async def test_a_closed_answer_reaches_the_consumer_in_order() -> None:
    """Started, text, finish, done: each once, with the counts that the tokenizer acknowledged."""
    consumer = RecordingConsumer()
    async with scripted_scene() as scene:
        generation = scene.generate(consumer)
        handle = (await wrk.submitted(scene.worker)).first_handle
        await scene.worker.send(wrk.start(handle))
        await scene.worker.send(wrk.tokens(handle, 11, 12, 13))
        await scene.worker.send(wrk.end(handle))
        closes = await scene.tokenizer.read_until("closes")
        await scene.tokenizer.send(tok.text(handle, "ab", 2))
        last = tok.text(handle, "c", 3)
        last.closed_handles.append(handle)
        await scene.tokenizer.send(last)
        await consumer.hears("done")

    assert FINISH_REASON_LENGTH == closes[0].finish_reason
    kinds = [("started", 1), ("text", 0, "ab"), ("text", 0, "c"), ("finish", 0), ("done",)]
    assert kinds == consumer.heard
    assert ("length", 3) == (
        consumer.results[0].finish_reason,
        consumer.results[0].completion_tokens,
    )
    assert ([3], 1) == (generation.usage.completion_tokens, generation.usage.cached_prompt_tokens)


async def test_an_unknown_finish_reason_is_an_error() -> None:
    """A reason of a newer worker is read as unspecified: the request fails and does not hang."""
    consumer = RecordingConsumer()
    async with scripted_scene() as scene:
        scene.generate(consumer)
        handle = (await wrk.submitted(scene.worker)).first_handle
        await scene.worker.send(wrk.end(handle, 77))
        await consumer.hears("error")

    assert errors_pb2.ERROR_REASON_ENGINE_FAILURE == consumer.errors[0].reason
    assert "77" in consumer.errors[0].message


class BrokenConsumer(RecordingConsumer):
    """Breaks the rule that a consumer never raises."""

    def on_started(self, times: AnswerTimes) -> None:
        raise ZeroDivisionError


async def test_a_bug_while_reading_costs_a_stream_and_not_the_link() -> None:
    """Where the edge's own code fails the stream is lost, logged, and connected again."""
    consumer = BrokenConsumer()
    with structlog.testing.capture_logs() as logs:
        async with scripted_scene() as scene:
            scene.generate(consumer)
            handle = (await wrk.submitted(scene.worker)).first_handle
            await scene.worker.send(wrk.start(handle))
            await consumer.hears("error")
            await scene.workers[0].greeted()

    assert errors_pb2.ERROR_REASON_WORKER_LOST == consumer.errors[0].reason
    assert "link_failed" in [entry["event"] for entry in logs]


async def test_a_stop_string_that_is_not_there_ends_the_stream() -> None:
    """A tokenizer that names a stop string which the request does not have breaks the contract."""
    consumer = RecordingConsumer()
    async with scripted_scene() as scene:
        scene.generate(consumer, stop_strings=("a",))
        handle = (await wrk.submitted(scene.worker)).first_handle
        await scene.tokenizer.send(tok.hit(handle, 1, stop_index=5))  # there is no such stop string
        await consumer.hears("error")
        await scene.tokenizers[0].greeted()

    assert errors_pb2.ERROR_REASON_WORKER_LOST == consumer.errors[0].reason

"""Outputs that go on elsewhere after a loss, against scripted workers and tokenizers.

The script's tokenizers say what they like: what is checked is what the edge asks of them and of the
workers, and that the consumer hears one answer.
"""

import pytest

from headrace.client.answer_events import CallArguments, CallBegin, CallEnd, ContentDelta
from headrace.common.v1 import errors_pb2
from headrace.common.v1.finish_pb2 import FINISH_REASON_LENGTH, FINISH_REASON_STOP
from headrace.tokenizer.v1.detokenize_pb2 import (
    DetokenizeResponse,
    OutputDelta,
    ToolCallArguments,
    ToolCallBegin,
    ToolCallEnd,
)
from headrace.worker.v1.attach_pb2 import Submission
from headrace.worker.v1.generation_pb2 import SamplingParams
from tests.support import scripted_tokenizer as tok
from tests.support import scripted_worker as wrk
from tests.support.recording_consumer import RecordingConsumer
from tests.support.scripted_scene import Scene, nothing_left, scripted_scene
from tests.support.scripted_stream import ScriptedStream

WORKER_LOST = errors_pb2.ERROR_REASON_WORKER_LOST
OVERLOADED = errors_pb2.ERROR_REASON_OVERLOADED
DRAINING = errors_pb2.ERROR_REASON_DRAINING


async def begun(
    scene: Scene, consumer: RecordingConsumer, *token_ids: int, released: int | None = None
) -> tuple[ScriptedStream, int]:
    """The submission's worker and handle, when the first text of these tokens has been heard."""
    worker, submission = await scene.serving_worker()
    handle = submission.first_handle
    await worker.send(wrk.start(handle))
    await worker.send(wrk.tokens(handle, *token_ids))
    tokenizer = serving_tokenizer(scene)
    await tokenizer.read_until("token_ids", len(token_ids))
    await tokenizer.send(tok.text(handle, "The", len(token_ids), released))
    await consumer.hears("text")
    return worker, handle


def serving_tokenizer(scene: Scene) -> ScriptedStream:
    """The stream of the one tokenizer that has outputs."""
    links = scene.backend._tokenizers
    return scene.tokenizer_streams[next(i for i, link in enumerate(links) if link.num_outputs)]


def prefix(submission: Submission) -> list[int]:
    """What a submission goes on behind."""
    return list(submission.request.output_prefix_token_ids)


async def test_a_lost_workers_output_goes_on_at_another() -> None:
    """Its ids are the new submission's prefix; the tokenizer that knows them stays."""
    consumer = RecordingConsumer()
    async with scripted_scene(workers=2, continues=True) as scene:
        scene.generate(consumer, sampling=SamplingParams(seed=7), min_tokens=3)
        first, handle = await begun(scene, consumer, 11, 12, released=1)
        first.close()
        second, again = await scene.serving_worker(2)
        await second.send(wrk.start(again.first_handle))
        await second.send(wrk.tokens(again.first_handle, 13))
        await second.send(wrk.end(again.first_handle))
        fed = await scene.tokenizer.read_until("token_ids", 3)
        await scene.tokenizer.read_until("closes")
        frame = tok.text(handle, " end", 3)
        frame.closed_handles.append(handle)
        await scene.tokenizer.send(frame)
        await consumer.hears("done")

        assert second is not first
        assert prefix(again) == [11, 12]
        request = again.request
        assert (request.n, request.max_tokens, request.min_tokens) == (1, 9, 3)
        assert (request.sampling.seed, request.output_index) == (7, 0)
        assert fed == [11, 12, 13]
        assert [*scene.tokenizer.entries("handles")] == [handle, handle]
        assert tok.abandoned(scene.tokenizer) == []
        assert consumer.texts == {0: "The end"}
        assert consumer.attempts == 1
        assert consumer.results[0].completion_tokens == 3
        assert nothing_left(scene)


async def test_outputs_go_on_one_by_one_with_their_own_index() -> None:
    """Each has its own prefix and draws as before; one that had ended stays ended."""
    consumer = RecordingConsumer()
    async with scripted_scene(workers=2, continues=True) as scene:
        scene.generate(consumer, n=3)
        first, submission = await scene.serving_worker()
        one, two, three = range(submission.first_handle, submission.first_handle + 3)
        await first.send(wrk.tokens(one, 11))
        await first.send(wrk.tokens(three, 31, 32))
        await first.send(wrk.end(one))
        await scene.tokenizer.read_until("closes")
        frame = tok.text(one, "one", 1)
        frame.closed_handles.append(one)
        await scene.tokenizer.send(frame)
        await consumer.hears("finish")
        first.close()
        second, _ = await scene.serving_worker(3)
        again = {entry.request.output_index: entry for entry in second.entries("submissions")}
        for index, known in ((1, 0), (2, 2)):
            await second.send(wrk.tokens(again[index].first_handle, 40 + index))
            await second.send(wrk.end(again[index].first_handle))
            handle = {1: two, 2: three}[index]
            await scene.tokenizer.read_until("closes", index + 1)
            frame = tok.text(handle, f"text {index}", known + 1)
            frame.closed_handles.append(handle)
            await scene.tokenizer.send(frame)
        await consumer.hears("done")

        assert {index: prefix(entry) for index, entry in again.items()} == {1: [], 2: [31, 32]}
        assert consumer.texts == {0: "one", 1: "text 1", 2: "text 2"}
        assert [consumer.results[i].completion_tokens for i in range(3)] == [1, 1, 3]
        assert nothing_left(scene)


@pytest.mark.parametrize(
    ("last", "max_tokens", "reason"),
    [(2, 9, FINISH_REASON_STOP), (12, 2, FINISH_REASON_LENGTH)],
)
async def test_what_was_complete_but_for_its_end_is_closed(
    last: int, max_tokens: int, reason: int
) -> None:
    """The worker was lost between the last token and the end: nobody need generate more."""
    consumer = RecordingConsumer()
    async with scripted_scene(continues=True) as scene:
        scene.generate(consumer, max_tokens=max_tokens)
        first, handle = await begun(scene, consumer, 11, last, released=1)
        first.close()
        (close,) = await scene.tokenizer.read_until("closes")
        await scene.tokenizer.send(tok.closed(handle))
        await consumer.hears("done")

        assert close.finish_reason == reason
        assert len(scene._submissions()) == 1
        assert nothing_left(scene)


async def test_a_lost_tokenizers_output_goes_on_at_another() -> None:
    """The other one gets all ids and how many are released; the worker notices nothing."""
    consumer = RecordingConsumer()
    async with scripted_scene(tokenizers=2, continues=True) as scene:
        scene.generate(consumer)
        worker, handle = await begun(scene, consumer, 11, 12, 13, released=2)
        lost = serving_tokenizer(scene)
        lost.close()
        other = next(stream for stream in scene.tokenizer_streams if stream is not lost)
        entry = await tok.opened(other)
        await other.send(tok.text(entry.handle, " quick", 3))
        await worker.send(wrk.tokens(handle, 14))
        await worker.send(wrk.end(handle))
        fed = await other.read_until("token_ids")
        await other.read_until("closes")
        frame = tok.text(entry.handle, " fox", 4)
        frame.closed_handles.append(entry.handle)
        await other.send(frame)
        await consumer.hears("done")

        assert entry.handle != handle
        assert (list(entry.prior_token_ids), entry.released_tokens) == ([11, 12, 13], 2)
        assert fed == [14]
        assert len(scene._submissions()) == 1
        assert wrk.aborted(worker) == []
        assert consumer.texts == {0: "The quick fox"}
        assert nothing_left(scene)


async def test_a_tokenizer_lost_behind_the_workers_end_is_replaced() -> None:
    """What was held back at the end is flushed by the other one."""
    consumer = RecordingConsumer()
    async with scripted_scene(tokenizers=2, continues=True) as scene:
        scene.generate(consumer)
        worker, handle = await begun(scene, consumer, 11, 12, released=1)
        await worker.send(wrk.end(handle))
        lost = serving_tokenizer(scene)
        await lost.read_until("closes")
        lost.close()
        other = next(stream for stream in scene.tokenizer_streams if stream is not lost)
        entry = await tok.opened(other)
        (close,) = await other.read_until("closes")
        frame = tok.text(entry.handle, " end", 2)
        frame.closed_handles.append(entry.handle)
        await other.send(frame)
        await consumer.hears("done")

        assert list(entry.prior_token_ids) == [11, 12]
        assert (close.handle, close.finish_reason) == (entry.handle, FINISH_REASON_LENGTH)
        assert consumer.texts == {0: "The end"}
        assert nothing_left(scene)


async def test_worker_and_tokenizer_may_both_be_lost() -> None:
    """First the worker, then the tokenizer: the ids of both workers are known to the last one."""
    consumer = RecordingConsumer()
    async with scripted_scene(workers=2, tokenizers=2, continues=True) as scene:
        scene.generate(consumer)
        first, _ = await begun(scene, consumer, 11)
        first.close()
        second, again = await scene.serving_worker(2)
        lost = serving_tokenizer(scene)
        await second.send(wrk.tokens(again.first_handle, 12))
        await lost.read_until("token_ids", 2)
        lost.close()
        other = next(stream for stream in scene.tokenizer_streams if stream is not lost)
        entry = await tok.opened(other)
        await second.send(wrk.tokens(again.first_handle, 13))
        await second.send(wrk.end(again.first_handle))
        fed = await other.read_until("token_ids")
        await other.read_until("closes")
        frame = tok.text(entry.handle, " end", 3)
        frame.closed_handles.append(entry.handle)
        await other.send(frame)
        await consumer.hears("done")

        assert list(entry.prior_token_ids) == [11, 12]
        assert fed == [13]
        assert consumer.texts == {0: "The end"}
        assert nothing_left(scene)


async def test_logprobs_behind_the_released_text_are_spelled_once_more() -> None:
    """What the lost tokenizer had not released goes to the other one with its alternatives."""
    consumer = RecordingConsumer()
    async with scripted_scene(tokenizers=2, continues=True) as scene:
        scene.generate(consumer, logprobs=1)
        handle = (await wrk.submitted(scene.worker)).first_handle
        await scene.worker.send(wrk.drawn(handle, -0.1, -0.2, -0.3, top=1))
        lost = serving_tokenizer(scene)
        await lost.read_until("token_ids", 3)
        await lost.send(tok.spelling(handle, [b"The"], (b"A",)))
        await lost.send(tok.text(handle, "The", 3, 1))
        await consumer.hears("text")
        lost.close()
        other = next(stream for stream in scene.tokenizer_streams if stream is not lost)
        entry = await tok.opened(other)
        await other.send(tok.spelling(entry.handle, [b" e", b"nd"], (b"x", b"y")))
        frame = tok.text(entry.handle, " end", 3)
        await scene.worker.send(wrk.end(handle))
        await other.read_until("closes")
        frame.closed_handles.append(entry.handle)
        await other.send(frame)
        await consumer.hears("done")

        assert entry.token_bytes
        given = entry.prior_alternatives
        assert (list(given.counts), list(given.token_ids)) == ([1, 1], [50, 50])
        assert [(e.token, round(e.logprob, 1)) for e in consumer.logprobs[0]] == [
            (b"The", -0.1),
            (b" e", -0.2),
            (b"nd", -0.3),
        ]
        assert consumer.texts == {0: "The end"}


async def test_events_that_were_not_acknowledged_are_said_once() -> None:
    """A call that goes on at another tokenizer is one call; what waited is taken from the new."""
    consumer = RecordingConsumer()
    begin = OutputDelta(tool_call_begin=ToolCallBegin(index=0, name="f"))
    half = OutputDelta(arguments=ToolCallArguments(index=0, text='{"a"'))
    rest = OutputDelta(arguments=ToolCallArguments(index=0, text=":1}"))
    end = OutputDelta(tool_call_end=ToolCallEnd(index=0, is_complete=True))
    async with scripted_scene(tokenizers=2, continues=True) as scene:
        scene.generate(consumer, "hermes")
        handle = (await wrk.submitted(scene.worker)).first_handle
        await scene.worker.send(wrk.tokens(handle, 11, 12, 13))
        lost = serving_tokenizer(scene)
        await lost.read_until("token_ids", 3)
        await lost.send(tok.says(handle, 2, begin, half))
        await consumer.hears("events")
        early = DetokenizeResponse(output_deltas=[rest, end])
        for delta in early.output_deltas:
            delta.handle = handle
        await lost.send(early)
        lost.close()
        other = next(stream for stream in scene.tokenizer_streams if stream is not lost)
        entry = await tok.opened(other)
        content = OutputDelta(content="!")
        await other.send(tok.says(entry.handle, 3, rest, end, content))
        await scene.worker.send(wrk.end(handle))
        await other.read_until("closes")
        await other.send(tok.closed(entry.handle))
        await consumer.hears("done")

        assert (list(entry.prior_token_ids), entry.released_tokens) == ([11, 12, 13], 2)
        assert consumer.events() == [
            CallBegin(0, "f"),
            CallArguments(0, '{"a"'),
            CallArguments(0, ":1}"),
            CallEnd(0, is_complete=True),
            ContentDelta("!"),
        ]


async def test_two_crashes_are_the_end_and_drains_are_not() -> None:
    """A worker that shuts down is no sign against the request; the second crash is."""
    consumer = RecordingConsumer()
    async with scripted_scene(workers=4, continues=True) as scene:
        scene.generate(consumer)
        drained, _ = await begun(scene, consumer, 11)
        frame = wrk.tokens(scene._submissions()[0][1].first_handle, 12)
        await drained.send(frame, draining=True)
        await scene.tokenizer.read_until("token_ids", 2)
        drained.close()
        crashed, second = await scene.serving_worker(2)
        crashed.close()
        last, third = await scene.serving_worker(3)
        last.close()
        await consumer.hears("error")

        assert prefix(second) == prefix(third) == [11, 12]
        assert [error.reason for error in consumer.errors] == [WORKER_LOST]
        assert consumer.errors[0].is_final
        assert nothing_left(scene)


async def test_a_busy_worker_may_refuse_a_continuation_once() -> None:
    """The next one is asked; a second refusal is told to the client."""
    consumer = RecordingConsumer()
    async with scripted_scene(workers=3, continues=True) as scene:
        scene.generate(consumer)
        first, _ = await begun(scene, consumer, 11)
        first.close()
        second, again = await scene.serving_worker(2)
        await second.send(wrk.refuse([again.first_handle], OVERLOADED))
        third, last = await scene.serving_worker(3)
        await third.send(wrk.refuse([last.first_handle], OVERLOADED))
        await consumer.hears("error")

        assert len({first, second, third}) == 3
        assert prefix(again) == prefix(last) == [11]
        assert [error.reason for error in consumer.errors] == [OVERLOADED]
        assert nothing_left(scene)


@pytest.mark.parametrize("delivers", [True, False])
async def test_a_worker_that_cannot_go_on_begins_anew_if_nothing_is_out(delivers: bool) -> None:
    """A guide that an engine cannot replay, say: once text is out, the loss is an error."""
    consumer = RecordingConsumer(delivers=delivers)
    async with scripted_scene(workers=2, continues=True) as scene:
        scene.generate(consumer)
        first, _ = await begun(scene, consumer, 11)
        first.close()
        second, again = await scene.serving_worker(2)
        frame = wrk.refuse([again.first_handle], errors_pb2.ERROR_REASON_UNSUPPORTED_PARAMETER)
        frame.terminals[0].failure.parameter = "output_prefix_token_ids"
        await second.send(frame)
        if delivers:
            await consumer.hears("error")
            assert [error.reason for error in consumer.errors] == [WORKER_LOST]
        else:
            _, whole = await scene.serving_worker(3)
            assert prefix(whole) == []
            assert consumer.texts == {0: ""}
            assert consumer.errors == []


async def test_a_loss_with_nowhere_to_go_is_an_error() -> None:
    """Of a worker as of a tokenizer; nothing stays open at the other."""
    for lost in ("worker", "tokenizer"):
        consumer = RecordingConsumer()
        async with scripted_scene(continues=True) as scene:
            scene.generate(consumer)
            worker, handle = await begun(scene, consumer, 11)
            (worker if lost == "worker" else scene.tokenizer).close()
            await consumer.hears("error")

            assert [error.reason for error in consumer.errors] == [WORKER_LOST]
            assert nothing_left(scene)
            if lost == "tokenizer":
                assert await worker.read_until("aborted_handles") == [handle]
            else:
                await scene.tokenizer.read_until("closes")
                assert tok.abandoned(scene.tokenizer) == [handle]


async def test_an_output_that_left_its_worker_can_be_aborted() -> None:
    """The client leaves: the new worker and the old tokenizer are told."""
    consumer = RecordingConsumer()
    async with scripted_scene(workers=2, continues=True) as scene:
        generation = scene.generate(consumer)
        first, handle = await begun(scene, consumer, 11)
        first.close()
        second, again = await scene.serving_worker(2)
        generation.abort()

        assert await second.read_until("aborted_handles") == [again.first_handle]
        await scene.tokenizer.read_until("closes")
        assert tok.abandoned(scene.tokenizer) == [handle]
        assert nothing_left(scene)

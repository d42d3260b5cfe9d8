"""What an output in a format says, from the tokenizer's frames to the consumer."""

from typing import Any

import pytest

from headrace.client.answer_events import (
    AnswerEvent,
    CallArguments,
    CallBegin,
    CallEnd,
    ContentDelta,
    ReasoningDelta,
    TokenLogprob,
)
from headrace.common.v1 import errors_pb2
from headrace.tokenizer.v1.detokenize_pb2 import (
    DetokenizeResponse,
    OutputDelta,
    ToolCallArguments,
    ToolCallBegin,
    ToolCallEnd,
)
from tests.support import scripted_tokenizer as tok
from tests.support import scripted_worker as wrk
from tests.support.recording_consumer import RecordingConsumer
from tests.support.scripted_scene import Scene, scripted_scene

FORMAT = "qwen3+hermes"


def content(text: str, reasoning_tokens: int = 0) -> OutputDelta:
    return OutputDelta(content=text, reasoning_tokens=reasoning_tokens)


def thought(text: str, reasoning_tokens: int) -> OutputDelta:
    return OutputDelta(reasoning=text, reasoning_tokens=reasoning_tokens)


def begin(index: int, name: str = "f") -> OutputDelta:
    return OutputDelta(tool_call_begin=ToolCallBegin(index=index, name=name))


def arguments(index: int, text: str = "{}") -> OutputDelta:
    return OutputDelta(arguments=ToolCallArguments(index=index, text=text))


def call_end(index: int, *, is_complete: bool = True) -> OutputDelta:
    return OutputDelta(tool_call_end=ToolCallEnd(index=index, is_complete=is_complete))


CALL = [begin(0), arguments(0, '{"a"'), arguments(0, ": 1}"), call_end(0)]
CALL_EVENTS: list[AnswerEvent] = [
    CallBegin(0, "f"),
    CallArguments(0, '{"a"'),
    CallArguments(0, ": 1}"),
    CallEnd(0, is_complete=True),
]


async def begun(scene: Scene, consumer: RecordingConsumer, **options: Any) -> int:
    """Start a request whose answer comes as events; its first handle."""
    before = len(scene.worker.entries("submissions"))
    scene.generate(consumer, FORMAT, **options)
    submission = await wrk.submitted(scene.worker, before + 1)
    await scene.worker.send(wrk.start(submission.first_handle))
    return submission.first_handle


async def ended(scene: Scene, handle: int) -> None:
    """The worker ends an output; return when the tokenizer has heard of it."""
    before = len(scene.tokenizer.entries("closes"))
    await scene.worker.send(wrk.end(handle))
    await scene.tokenizer.read_until("closes", before + 1)


async def test_what_an_entry_acknowledges_comes_in_one_call() -> None:
    """Events keep their order and are grouped by entries; thoughts' tokens are counted."""
    consumer = RecordingConsumer()
    async with scripted_scene() as scene:
        handle = await begun(scene, consumer)
        running = scene.generate(RecordingConsumer())  # a plain one beside it
        plain = (await wrk.submitted(scene.worker, 2)).first_handle
        first = tok.says(handle, 5, thought("hm", 3), content("Hi", 4))
        first.MergeFrom(tok.text(plain, "plain", 1))
        await scene.tokenizer.send(first)
        await consumer.hears("events")
        await scene.tokenizer.send(tok.says(handle, 9, *CALL, content("!", 4)))
        await ended(scene, handle)
        last = tok.says(handle, 10)
        last.closed_handles.append(handle)
        await scene.tokenizer.send(last)
        await consumer.hears("done")

    assert consumer.event_calls == {
        0: [[ReasoningDelta("hm"), ContentDelta("Hi")], [*CALL_EVENTS, ContentDelta("!")]]
    }
    assert consumer.texts == {}
    result = consumer.results[0]
    assert (result.completion_tokens, result.reasoning_tokens) == (10, 4)
    assert running.usage.reasoning_tokens == [0]


async def test_the_usage_is_current() -> None:
    """Each output's thoughts are counted as they come, also by a piece that says nothing else."""
    consumer = RecordingConsumer()
    async with scripted_scene() as scene:
        running = scene.generate(consumer, FORMAT, n=2)
        handle = (await wrk.submitted(scene.worker)).first_handle
        await scene.tokenizer.send(tok.says(handle, 2, OutputDelta(reasoning_tokens=2)))
        await scene.tokenizer.send(tok.says(handle + 1, 3, content("a")))
        await consumer.hears("events")

        assert running.usage.completion_tokens == [2, 3]
        assert running.usage.reasoning_tokens == [2, 0]
        assert consumer.event_calls == {0: [], 1: [[ContentDelta("a")]]}


async def test_events_wait_for_the_entry_that_acknowledges_them() -> None:
    """What came in an earlier frame goes on with the entry, and only then."""
    consumer, other = RecordingConsumer(), RecordingConsumer()
    async with scripted_scene() as scene:
        handle = await begun(scene, consumer)
        later = await begun(scene, other)
        early = tok.says(handle, 2, content("a"))
        del early.handles[:], early.consumed_tokens[:], early.released_tokens[:], early.deltas[:]
        await scene.tokenizer.send(early)
        await scene.tokenizer.send(tok.says(later, 1, content("other")))
        await other.hears("events")
        before = list(consumer.event_calls[0])
        await scene.tokenizer.send(tok.says(handle, 2))
        await consumer.hears("events")

    assert before == []
    assert consumer.event_calls == {0: [[ContentDelta("a")]]}


@pytest.mark.parametrize(
    "deltas",
    [
        [begin(1)],
        [begin(0), begin(1)],
        [begin(0), call_end(0), begin(0)],
        [arguments(0)],
        [begin(0), arguments(1)],
        [begin(0), call_end(0), arguments(0)],
        [call_end(0)],
        [begin(0), call_end(1)],
    ],
)
async def test_calls_out_of_order_end_the_stream(deltas: list[OutputDelta]) -> None:
    """Calls are numbered from 0, one after another, and only the open one goes on."""
    consumer = RecordingConsumer()
    async with scripted_scene() as scene:
        handle = await begun(scene, consumer)
        await scene.tokenizer.send(tok.says(handle, 1, content("Hi"), *deltas))
        await consumer.hears("error")

    assert [error.reason for error in consumer.errors] == [errors_pb2.ERROR_REASON_WORKER_LOST]
    assert consumer.event_calls == {0: []}


@pytest.mark.parametrize("output_format", ["text", FORMAT])
async def test_text_and_events_are_not_mixed_up(output_format: str) -> None:
    """An event of a plain output ends the stream, and so does text of an output in a format."""
    consumer = RecordingConsumer(delivers=False)
    async with scripted_scene() as scene:
        scene.generate(consumer, output_format)
        handle = (await wrk.submitted(scene.worker)).first_handle
        if output_format == "text":
            await scene.tokenizer.send(tok.says(handle, 1, content("Hi")))
        else:
            await scene.tokenizer.send(tok.text(handle, "Hi", 1))
        await consumer.hears("error")

    assert [error.reason for error in consumer.errors] == [errors_pb2.ERROR_REASON_WORKER_LOST]
    assert [kind for kind, *_ in consumer.heard] == ["error"]


async def test_events_of_an_output_that_is_gone_are_strays() -> None:
    """An abort crosses frames that are under way: they are counted and nothing more."""
    gone, other = RecordingConsumer(), RecordingConsumer()
    async with scripted_scene() as scene:
        running = scene.generate(gone, FORMAT)
        handle = (await wrk.submitted(scene.worker)).first_handle
        later = await begun(scene, other)
        running.abort()
        frame = tok.says(handle, 1, *CALL)
        frame.MergeFrom(tok.says(later, 1, content("fine")))
        await scene.tokenizer.send(frame)
        await other.hears("events")
        [link] = scene.backend._tokenizers

        assert link.stray_entries == len(CALL) + 1
        assert gone.event_calls == {0: []}
        assert other.events() == [ContentDelta("fine")]


async def test_an_end_within_a_call_fails_the_request_alone() -> None:
    """The tokenizer breaks calls off itself; one that it leaves open is a contradiction."""
    consumer, other = RecordingConsumer(), RecordingConsumer()
    async with scripted_scene() as scene:
        handle = await begun(scene, consumer)
        later = await begun(scene, other)
        await ended(scene, handle)
        frame = tok.says(handle, 1, begin(0))
        frame.closed_handles.append(handle)
        frame.MergeFrom(tok.says(later, 1, content("fine")))
        await scene.tokenizer.send(frame)
        await consumer.hears("error")
        await other.hears("events")

    [error] = consumer.errors
    assert error.reason == errors_pb2.ERROR_REASON_INCOMPATIBLE_PEER
    assert "within call 0" in error.message
    assert [kind for kind, *_ in consumer.heard] == ["started", "events", "error"]


async def test_log_probabilities_come_with_the_next_events() -> None:
    """All released tokens with text have an entry; what no event follows comes at the end."""
    consumer = RecordingConsumer()
    async with scripted_scene() as scene:
        handle = await begun(scene, consumer, logprobs=0)
        await scene.worker.send(wrk.drawn(handle, -0.5, -0.25, -1.0, -2.0))
        await scene.tokenizer.read_until("token_ids", 4)
        markup = tok.spelling(handle, [b"<think>"])
        markup.MergeFrom(tok.says(handle, 1, OutputDelta(reasoning_tokens=1)))
        await scene.tokenizer.send(markup)
        more = tok.spelling(handle, [b"hm", b"</think>"])
        more.MergeFrom(tok.says(handle, 3, thought("hm", 3)))
        await scene.tokenizer.send(more)
        await consumer.hears("events")
        first = list(consumer.logprobs[0])
        await ended(scene, handle)
        last = tok.spelling(handle, [b"\n"])
        last.MergeFrom(tok.says(handle, 4))
        last.closed_handles.append(handle)
        await scene.tokenizer.send(last)
        await consumer.hears("done")

    assert first == [
        TokenLogprob(b"<think>", -0.5, ()),
        TokenLogprob(b"hm", -0.25, ()),
        TokenLogprob(b"</think>", -1.0, ()),
    ]
    assert consumer.logprobs[0][3:] == [TokenLogprob(b"\n", -2.0, ())]
    assert consumer.event_calls == {0: [[ReasoningDelta("hm")], []]}


@pytest.mark.parametrize(
    ("answer", "part"),
    [
        ([b"a", b"b"], "2 tokens were spelled, 1 have a probability"),
        ([], "1 tokens are out, 0 were spelled"),
    ],
)
async def test_tokens_that_contradict_fail_the_request_alone(
    answer: list[bytes], part: str
) -> None:
    """Events without their tokens never reach the caller."""
    consumer, other = RecordingConsumer(), RecordingConsumer()
    async with scripted_scene() as scene:
        handle = await begun(scene, consumer, logprobs=0)
        later = await begun(scene, other)
        await scene.worker.send(wrk.drawn(handle, -0.5))
        await scene.tokenizer.read_until("token_ids")
        frame = tok.spelling(handle, answer) if answer else DetokenizeResponse()
        frame.MergeFrom(tok.says(handle, 1, content("ab")))
        frame.MergeFrom(tok.says(later, 1, content("fine")))
        await scene.tokenizer.send(frame)
        await other.hears("events")

    [error] = consumer.errors
    assert error.reason == errors_pb2.ERROR_REASON_INCOMPATIBLE_PEER
    assert part in error.message
    assert consumer.event_calls == {0: []}


async def test_a_new_attempt_forgets_what_the_earlier_said() -> None:
    """Nothing of the lost attempt stays: neither events, nor an open call, nor a count."""
    consumer = RecordingConsumer(delivers=False)
    async with scripted_scene(workers=2) as scene:
        running = scene.generate(consumer, FORMAT)
        first, submission = await scene.serving_worker()
        half = tok.says(submission.first_handle, 9, thought("hm", 7), begin(0))
        await scene.tokenizer.send(half)
        await consumer.hears("events")
        first.close()
        second, again = await scene.serving_worker(2)
        counted = list(running.usage.reasoning_tokens)
        await second.send(wrk.end(again.first_handle))
        await scene.tokenizer.read_until("closes", 2)
        late = tok.says(submission.first_handle, 10, arguments(0))
        late.MergeFrom(tok.says(again.first_handle, 4, *CALL))
        late.closed_handles.append(again.first_handle)
        await scene.tokenizer.send(late)
        await consumer.hears("done")

    assert counted == [0]
    assert consumer.events() == CALL_EVENTS
    assert consumer.results[0].reasoning_tokens == 0


async def test_what_has_delivered_an_event_is_not_retried() -> None:
    """Any event that reached the caller makes a loss the request's end."""
    consumer = RecordingConsumer()
    async with scripted_scene(workers=2) as scene:
        scene.generate(consumer, FORMAT)
        first, submission = await scene.serving_worker()
        await scene.tokenizer.send(tok.says(submission.first_handle, 1, thought("hm", 1)))
        await consumer.hears("events")
        first.close()
        await consumer.hears("error")

        assert 1 == sum(len(stream.entries("submissions")) for stream in scene.worker_streams)
    assert [error.reason for error in consumer.errors] == [errors_pb2.ERROR_REASON_WORKER_LOST]


async def test_a_stop_string_hands_over_what_is_left() -> None:
    """What came in front of it, tokens included, goes on before the end."""
    consumer = RecordingConsumer()
    async with scripted_scene() as scene:
        handle = await begun(scene, consumer, logprobs=0, stop_strings=("STOP",))
        await scene.worker.send(wrk.drawn(handle, -0.5, -0.25))
        await scene.tokenizer.read_until("token_ids", 2)
        frame = tok.spelling(handle, [b"a"])
        frame.MergeFrom(tok.says(handle, 1, content("a")))
        frame.MergeFrom(tok.spelling(handle, [b"b"]))
        frame.MergeFrom(tok.hit(handle, 2))
        await scene.tokenizer.send(frame)
        await consumer.hears("done")

    assert consumer.events() == [ContentDelta("a")]
    assert [token.token for token in consumer.logprobs[0]] == [b"a", b"b"]
    assert consumer.results[0].stop_string == "STOP"

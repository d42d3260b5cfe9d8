"""Log probabilities from the worker's frames and the tokenizer's to the consumer, joined."""

import math
from typing import Any

import pytest

from headrace.client.answer_events import TokenLogprob
from headrace.client.chat import HeadraceClient
from headrace.client.prompt_request import ChatMessage, PromptRequest
from headrace.common.v1 import errors_pb2
from headrace.tokenizer.v1.detokenize_pb2 import DetokenizeResponse
from tests.support import scripted_tokenizer as tok
from tests.support import scripted_worker as wrk
from tests.support.in_process import HELLO, connected_backend, in_process_stack, small_registry
from tests.support.recording_consumer import RecordingConsumer
from tests.support.scripted_scene import Scene, generation_options, scripted_scene
from tokenizer_svc.registry import ModelRegistry
from worker.engine.paced_settings import PacedSettings

ECHO = PacedSettings(tokens_per_second=2000, script="echo")


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> ModelRegistry:
    """One small model."""
    return small_registry(tmp_path_factory.mktemp("models"))


async def begun(scene: Scene, consumer: RecordingConsumer, **options: Any) -> int:
    """Start a request with log probabilities; its first handle."""
    scene.generate(consumer, **({"logprobs": 2} | options))
    submission = await wrk.submitted(scene.worker)
    await scene.worker.send(wrk.start(submission.first_handle))
    return submission.first_handle


async def test_what_both_say_comes_together_with_the_text() -> None:
    """Entries come with the delta that they spell; tokens without text have none."""
    consumer = RecordingConsumer()
    async with scripted_scene() as scene:
        handle = await begun(scene, consumer)
        await scene.worker.send(wrk.drawn(handle, -0.5, -0.25, -1.0, top=2))
        [fed] = await scene.tokenizer.read_until("alternatives")
        both = tok.spelling(
            handle, [b"\xc3", b"\xa9!", b""], (b"\xc3", b"a", b"b", b"c", b"d", b"e")
        )
        both.MergeFrom(tok.text(handle, "é!", 3))
        await scene.tokenizer.send(both)
        await consumer.hears("text")
        submission = await wrk.submitted(scene.worker)
        opened = await tok.opened(scene.tokenizer)

    assert submission.request.logprobs == 2
    assert opened.token_bytes
    assert (fed.handle, list(fed.counts), list(fed.token_ids)) == (
        handle,
        [2, 2, 2],
        [50, 51] * 3,
    )
    assert consumer.texts == {0: "é!"}
    assert consumer.logprobs == {
        0: [
            TokenLogprob(b"\xc3", -0.5, ((b"\xc3", -1.5), (b"a", -2.5))),
            TokenLogprob(b"\xa9!", -0.25, ((b"b", -1.5), (b"c", -2.5))),
        ]
    }


async def test_who_does_not_ask_hears_nothing_of_it() -> None:
    """A plain output beside one with log probabilities is opened and fed as ever."""
    plain, asking = RecordingConsumer(), RecordingConsumer()
    async with scripted_scene() as scene:
        scene.generate(plain)
        scene.generate(asking, logprobs=0)
        submissions = await scene.worker.read_until("submissions", 2)
        first, second = (submission.first_handle for submission in submissions)
        frame = wrk.drawn(second, -0.5)
        frame.handles.append(first)
        frame.counts.append(1)
        frame.token_ids.append(60)
        await scene.worker.send(frame)
        await scene.tokenizer.read_until("token_ids", 2)
        answer = tok.spelling(second, [b"x"])
        answer.MergeFrom(tok.text(second, "x", 1))
        answer.MergeFrom(tok.text(first, "y", 1))
        await scene.tokenizer.send(answer)
        await plain.hears("text")
        opens = scene.tokenizer.entries("opens")

    assert [entry.token_bytes for entry in opens] == [False, True]
    assert scene.tokenizer.entries("alternatives") == []
    assert (plain.texts, plain.logprobs) == ({0: "y"}, {})
    assert asking.logprobs == {0: [TokenLogprob(b"x", -0.5, ())]}


async def test_a_retry_voids_what_was_gathered() -> None:
    """What the lost worker had said of probabilities is not mixed with the other's."""
    consumer = RecordingConsumer(delivers=False)
    async with scripted_scene(workers=2) as scene:
        scene.generate(consumer, logprobs=0)
        first, submission = await scene.serving_worker()
        await first.send(wrk.start(submission.first_handle))
        await first.send(wrk.drawn(submission.first_handle, -0.5, -0.25))
        await scene.tokenizer.read_until("token_ids", 2)
        half = tok.spelling(submission.first_handle, [b"half"])
        half.MergeFrom(tok.text(submission.first_handle, "half", 1))
        await scene.tokenizer.send(half)
        await consumer.hears("text")
        first.close()
        second, again = await scene.serving_worker(2)
        await second.send(wrk.start(again.first_handle))
        await second.send(wrk.drawn(again.first_handle, -3.0))
        await scene.tokenizer.read_until("token_ids", 3)
        late = tok.spelling(submission.first_handle, [b"late"])
        late.MergeFrom(tok.spelling(again.first_handle, [b"whole"]))
        late.MergeFrom(tok.text(again.first_handle, "whole", 1))
        late.closed_handles.append(again.first_handle)
        await second.send(wrk.end(again.first_handle))
        await scene.tokenizer.read_until("closes", 2)
        await scene.tokenizer.send(late)
        await consumer.hears("done")

    assert consumer.texts == {0: "whole"}
    assert consumer.logprobs == {0: [TokenLogprob(b"whole", -3.0, ())]}


@pytest.mark.parametrize(
    ("answer", "part"),
    [
        ([b"ab", b"c"], "2 tokens were spelled, 1 have a probability"),
        ([b"a"], "do not spell the text"),
        ([], "do not spell the text"),
        ([b"abc"], "do not spell the text"),
    ],
)
async def test_a_tokenizer_that_contradicts_fails_the_request_alone(
    answer: list[bytes], part: str
) -> None:
    """Text without its entries never reaches the caller; the error says what did not fit."""
    consumer, other = RecordingConsumer(), RecordingConsumer()
    async with scripted_scene() as scene:
        handle = await begun(scene, consumer, logprobs=0)
        scene.generate(other)
        later = (await wrk.submitted(scene.worker, 2)).first_handle
        await scene.worker.send(wrk.drawn(handle, -0.5))
        frame = tok.spelling(handle, answer) if answer else DetokenizeResponse()
        frame.MergeFrom(tok.text(handle, "ab", 1))
        frame.MergeFrom(tok.text(later, "fine", 1))
        await scene.tokenizer.read_until("token_ids")
        await scene.tokenizer.send(frame)
        await other.hears("text")
        aborted = await scene.worker.read_until("aborted_handles")

    [error] = consumer.errors
    assert error.reason == errors_pb2.ERROR_REASON_INCOMPATIBLE_PEER
    assert part in error.message
    assert consumer.texts == {0: ""}
    assert other.texts == {0: "fine"}
    assert [handle] == list(aborted)


@pytest.mark.parametrize("broken", ["top_counts", "top_logprobs", "logprobs"])
async def test_a_worker_whose_arrays_contradict_ends_the_stream(broken: str) -> None:
    """Lengths that do not fit are a bug of the worker: loud, and the request is lost with it."""
    consumer = RecordingConsumer()
    async with scripted_scene() as scene:
        handle = await begun(scene, consumer)
        frame = wrk.drawn(handle, -0.5, top=1)
        getattr(frame.logprobs[0], broken).append(1)
        if broken == "logprobs":
            frame.logprobs[0].top_counts.append(0)
        await scene.worker.send(frame)
        await consumer.hears("error")

    assert [error.reason for error in consumer.errors] == [errors_pb2.ERROR_REASON_WORKER_LOST]


async def test_numbers_that_are_no_numbers_pass() -> None:
    """What is impossible is minus infinity, and stays what it is on this side of the wire."""
    consumer = RecordingConsumer()
    async with scripted_scene() as scene:
        handle = await begun(scene, consumer, logprobs=0)
        await scene.worker.send(wrk.drawn(handle, -math.inf))
        await scene.tokenizer.read_until("token_ids")
        frame = tok.spelling(handle, [b"x"])
        frame.MergeFrom(tok.text(handle, "x", 1))
        await scene.tokenizer.send(frame)
        await consumer.hears("text")

    assert consumer.logprobs[0][0].logprob == -math.inf


@pytest.mark.parametrize("stop", [(), ("wor",), ("😀",)])
async def test_the_typed_clients_entries_spell_its_text(
    registry: ModelRegistry, stop: tuple[str, ...]
) -> None:
    """Every entry has its bytes and as many alternatives as the engine has, up to a stop."""
    said = "Hello, 日本 world 😀!"
    async with (
        in_process_stack(registry, ECHO) as stack,
        HeadraceClient(stack.worker_addresses, stack.tokenizer_addresses) as client,
        client.chat([ChatMessage("user", said)], logprobs=3, stop=stop, max_tokens=60) as answer,
    ):
        text = await answer.text()

    assert answer.stop_string == (stop[0] if stop else None)
    assert said.partition(stop[0])[0] in text if stop else said in text
    assert b"".join(entry.token for entry in answer.logprobs).decode() == text
    assert all(entry.token for entry in answer.logprobs)
    assert {(entry.logprob, len(entry.top)) for entry in answer.logprobs} == {(0.0, 1)}


async def test_several_outputs_have_their_own(registry: ModelRegistry) -> None:
    """With n = 3 and without alternatives each output's entries spell its text."""
    consumer = RecordingConsumer()
    async with in_process_stack(registry, ECHO) as stack, connected_backend(stack) as backend:
        prompt = await backend.render(PromptRequest(stack.model, tuple(HELLO)), timeout_seconds=5)
        backend.generate(prompt, generation_options(n=3, logprobs=0, max_tokens=20), consumer)
        await consumer.hears("done")

    assert consumer.errors == []
    for index in range(3):
        entries = consumer.logprobs[index]
        assert b"".join(entry.token for entry in entries).decode() == consumer.texts[index]
        assert entries
        assert all(entry.top == () for entry in entries)

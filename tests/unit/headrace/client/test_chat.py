"""ChatAnswer: deltas for one reader, whatever the order of reading and arriving."""

import asyncio

import pytest

from headrace.client.answer_events import TokenLogprob
from headrace.client.answers import OutputResult
from headrace.client.chat import ChatAnswer
from headrace.common.v1 import errors_pb2
from headrace.rpc.errors import ServiceError

ERROR = ServiceError(errors_pb2.ERROR_REASON_WORKER_LOST, "lost")


async def test_what_came_before_reading_is_joined() -> None:
    """Deltas that nobody read come as one; the end is the end, again and again."""
    answer = ChatAnswer()
    write = answer.text_writer(0)
    write("a")
    write("b")
    answer.on_finish(0, OutputResult("length", 2))
    answer.on_done()

    assert ["ab"] == [part async for part in answer]
    assert "" == await asyncio.wait_for(answer.text(), 1)
    assert "length" == answer.finish_reason


async def test_each_delta_reaches_a_waiting_reader() -> None:
    """A reader that waits is woken by text and by the end."""
    answer = ChatAnswer()
    write = answer.text_writer(0)
    reading = asyncio.create_task(answer.text())
    for part in ("a", "b", "c"):
        write(part)
        await asyncio.sleep(0)
    answer.on_done()

    assert "abc" == await asyncio.wait_for(reading, 1)


async def test_text_before_an_error_is_delivered_and_the_error_stays() -> None:
    """The reader gets what there is, then the error, also when it asks again."""
    answer = ChatAnswer()
    answer.text_writer(0)("a")
    answer.on_error(ERROR)
    seen: list[str] = []
    with pytest.raises(ServiceError, match="lost"):  # noqa: PT012 (what came before the error counts)
        async for part in answer:
            seen.append(part)  # noqa: PERF401 (a comprehension would lose what came before)
    with pytest.raises(ServiceError, match="lost"):
        await asyncio.wait_for(answer.text(), 1)

    assert ["a"] == seen


async def test_a_new_attempt_drops_what_nobody_read() -> None:
    """Until text is read nothing is delivered, and a retry starts afresh."""
    answer = ChatAnswer()
    answer.text_writer(0)("old")
    had = answer.has_delivered
    answer.text_writer(0)("new")
    answer.on_done()

    assert "new" == await answer.text()
    assert (False, True) == (had, answer.has_delivered)


async def test_log_probabilities_are_those_of_the_text_taken() -> None:
    """They gather with the text, and a new attempt drops both alike."""
    old, first, second = (TokenLogprob(raw, -1.0, ()) for raw in (b"old", b"a", b"b"))
    answer = ChatAnswer()
    answer.logprobs_writer(0)("old", [old])
    write = answer.logprobs_writer(0)
    write("a", [first])
    parts = aiter(answer)

    assert answer.logprobs == []
    assert await anext(parts) == "a"
    assert answer.logprobs == [first]
    write("b", [second])
    answer.on_done()
    assert answer.logprobs == [first]
    assert [part async for part in parts] == ["b"]
    assert answer.logprobs == [first, second]


async def test_leaving_ends_an_unfinished_answer_only() -> None:
    """A reader of an answer that was left is told; a finished one stays as it is."""
    left, done = ChatAnswer(), ChatAnswer()
    done.text_writer(0)("a")
    done.on_done()
    for answer in (left, done):
        answer.leave()
    with pytest.raises(ServiceError) as caught:
        await asyncio.wait_for(left.text(), 1)

    assert errors_pb2.ERROR_REASON_CLIENT_CANCELLED == caught.value.reason
    assert "a" == await done.text()

"""ChatAnswer: deltas for one reader, whatever the order of reading and arriving."""

import asyncio
import re

import pytest

from headrace.client.answer_events import (
    CallArguments,
    CallBegin,
    CallEnd,
    ContentDelta,
    ReasoningDelta,
    TokenLogprob,
)
from headrace.client.answers import OutputResult
from headrace.client.chat_answer import ChatAnswer
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


async def test_calls_and_thoughts_stand_beside_the_text() -> None:
    """Text alone is iterated; calls that are whole get ids, one that broke off is left out."""
    answer = ChatAnswer()
    write = answer.event_writer(0)
    write(
        [ReasoningDelta("h"), ReasoningDelta("m"), ContentDelta("Let me "), ContentDelta("see")], []
    )
    write([CallBegin(0, "f"), CallArguments(0, '{"a": '), CallArguments(0, "1}")], [])
    write([CallEnd(0, is_complete=True), CallBegin(1, "g"), CallEnd(1, is_complete=True)], [])
    write([CallBegin(2, "h"), CallArguments(2, "{"), CallEnd(2, is_complete=False)], [])
    write([ContentDelta("?")], [])
    answer.on_done()

    assert await answer.text() == "Let me see?"
    assert answer.reasoning == "hm"
    assert [(call.name, call.arguments) for call in answer.tool_calls] == [
        ("f", '{"a": 1}'),
        ("g", ""),
    ]
    assert all(re.fullmatch("call_[0-9A-Za-z]{24}", call.id) for call in answer.tool_calls)
    assert len({call.id for call in answer.tool_calls}) == 2


async def test_what_is_no_text_is_taken_without_a_delta() -> None:
    """A reader sees no empty text; once it could see thoughts, the answer is delivered."""
    answer = ChatAnswer()
    write = answer.event_writer(0)
    reading = asyncio.create_task(answer.text())
    await asyncio.sleep(0)
    had = answer.has_delivered
    write([ReasoningDelta("hm")], [])
    await asyncio.sleep(0)

    assert not reading.done()
    assert (had, answer.has_delivered, answer.reasoning) == (False, True, "hm")
    answer.on_done()
    assert await asyncio.wait_for(reading, 1) == ""


async def test_a_new_attempt_drops_events_that_nobody_took() -> None:
    """Neither calls nor thoughts nor tokens of the lost attempt stay."""
    answer = ChatAnswer()
    old, new, last = (TokenLogprob(raw, -1.0, ()) for raw in (b"old", b"new", b"last"))
    answer.event_writer(0)([ReasoningDelta("x"), CallBegin(0, "x"), ContentDelta("x")], [old])
    write = answer.event_writer(0)
    write([CallBegin(0, "f"), CallArguments(0, "{}"), CallEnd(0, is_complete=True)], [new])
    write([], [last])
    answer.on_done()

    assert await answer.text() == ""
    assert [(call.name, call.arguments) for call in answer.tool_calls] == [("f", "{}")]
    assert (answer.reasoning, answer.logprobs) == ("", [new, last])


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

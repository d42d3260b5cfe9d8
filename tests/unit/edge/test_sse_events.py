"""Streams of answers that come as events: calls, thoughts and text, in the order they were said."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Any

import pytest

from edge.http_server import EdgeServer
from headrace.client.answer_events import (
    AnswerEvent,
    CallArguments,
    CallBegin,
    CallEnd,
    ContentDelta,
    ReasoningDelta,
)
from headrace.common.v1 import errors_pb2
from headrace.rpc.errors import ServiceError
from tests.support.edge_server import (
    HELLO,
    RawClient,
    parse_events,
    raw_client,
    running_edge,
    streamed_text,
)
from tests.support.fake_backend import FakeBackend, FakeGeneration
from tests.support.streamed_calls import streamed_message

F = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
CALLING: Mapping[str, Any] = {**HELLO, "stream": True, "tools": [F]}
OLDER: Mapping[str, Any] = {**HELLO, "stream": True, "functions": [{"name": "f"}]}
ROLE = {"role": "assistant", "content": "", "refusal": None}
LOST = ServiceError(errors_pb2.ERROR_REASON_WORKER_LOST, "worker gone")


def whole_call(call: int = 0, arguments: str = "{}") -> list[AnswerEvent]:
    return [CallBegin(call, "f"), CallArguments(call, arguments), CallEnd(call, is_complete=True)]


@pytest.fixture
def backend() -> FakeBackend:
    return FakeBackend(texts=None)


@pytest.fixture
async def edge(backend: FakeBackend) -> AsyncIterator[EdgeServer]:
    async with running_edge(backend) as edge:
        yield edge


@pytest.fixture
async def client(edge: EdgeServer) -> AsyncIterator[RawClient]:
    async with raw_client(edge.port) as client:
        yield client


async def begun(
    client: RawClient, backend: FakeBackend, document: Mapping[str, Any] = CALLING, **fields: Any
) -> FakeGeneration:
    """A stream whose headers have been read."""
    client.post({**document, **fields})
    generation = await backend.next_generation()
    generation.start()
    assert (await client.head()).status == 200
    return generation


async def rest(client: RawClient) -> list[Any]:
    return parse_events(b"".join([chunk async for chunk in client.chunks()]))


def deltas(events: list[Any], index: int = 0) -> list[dict[str, Any]]:
    return [
        choice["delta"]
        for event in events
        if event != "[DONE]" and "error" not in event
        for choice in event["choices"]
        if choice["index"] == index
    ]


async def test_headers_go_out_before_the_first_event(
    client: RawClient, backend: FakeBackend
) -> None:
    """Where a call is possible nothing follows the headers until something is said."""
    generation = await begun(client, backend)
    await asyncio.sleep(0)
    assert not generation.consumer.has_delivered
    generation.events(CallBegin(0, "f"))

    delta = (await client.event())["choices"][0]["delta"]

    assert generation.consumer.has_delivered
    assert list(delta) == ["role", "content", "tool_calls", "refusal"]
    assert delta["content"] is None


async def test_a_text_first(client: RawClient, backend: FakeBackend) -> None:
    """What begins with a text begins as every text does, and a later call follows it."""
    generation = await begun(client, backend)
    generation.events(ContentDelta("Let me see"))
    generation.events(*whole_call())
    generation.finish()
    generation.done()

    told = deltas(await rest(client))

    assert told[:2] == [ROLE, {"content": "Let me see"}]
    (call,) = told[2].pop("tool_calls")
    assert told[2] == {}
    assert (call["index"], call["type"], call["function"]) == (
        0,
        "function",
        {"name": "f", "arguments": ""},
    )
    assert told[3:] == [{"tool_calls": [{"index": 0, "function": {"arguments": "{}"}}]}, {}]


async def test_thoughts_without_tools(client: RawClient, backend: FakeBackend) -> None:
    """Where nothing can be called the role chunk goes out with the headers."""
    backend.output_format = "deepseek_r1"
    generation = await begun(client, backend, {**HELLO, "stream": True})
    assert (await client.event())["choices"][0]["delta"] == ROLE
    assert not generation.consumer.has_delivered
    generation.events(ReasoningDelta("hm"), ReasoningDelta("\u2028"))
    generation.events(ContentDelta("so"))
    generation.finish(reasoning=2)
    generation.done()

    assert deltas(await rest(client)) == [
        {"reasoning_content": "hm\u2028"},
        {"content": "so"},
        {},
    ]


@pytest.mark.parametrize("document", [CALLING, OLDER])
async def test_an_answer_of_nothing(
    client: RawClient, backend: FakeBackend, document: Mapping[str, Any]
) -> None:
    """A stream that ends without an event still has its role chunk."""
    generation = await begun(client, backend, document)
    generation.finish()
    generation.done()

    events = await rest(client)

    assert (deltas(events), events[-1]) == ([ROLE, {}], "[DONE]")
    assert events[-2]["choices"][0]["finish_reason"] == "stop"


async def test_a_call_that_broke_off(client: RawClient, backend: FakeBackend) -> None:
    """It stays as far as it came; what follows is content; nothing is there to be called."""
    generation = await begun(client, backend)
    generation.events(CallBegin(0, "f"), CallArguments(0, '{"a'), CallEnd(0, is_complete=False))
    generation.events(ContentDelta("?"))
    generation.finish()
    generation.done()

    events = await rest(client)

    message = streamed_message(events)
    assert message.calls == [("f", '{"a')]
    assert (message.content, message.finish_reason) == ("?", "stop")


@pytest.mark.parametrize("version", ["1.1", "1.0"])
async def test_events_before_the_headers(backend: FakeBackend, version: str) -> None:
    """What comes in the turn of the start waits, and neighbours go out as one."""
    async with running_edge(backend) as edge, raw_client(edge.port) as client:
        client.post(CALLING, version=version)
        generation = await backend.next_generation()
        generation.start()
        generation.events(ReasoningDelta("a"), ReasoningDelta("b"))
        generation.events(ContentDelta("c"))
        generation.events(CallBegin(0, "f"))
        generation.events(CallArguments(0, "{"))
        generation.events(CallArguments(0, "}"), CallEnd(0, is_complete=True), CallBegin(1, "g"))
        generation.events(CallArguments(1, "{"))
        generation.events(CallArguments(1, "}"))
        generation.events(CallEnd(1, is_complete=True))
        assert not generation.consumer.has_delivered
        generation.finish()
        generation.done()
        events = parse_events((await client.response()).body)

    told = deltas(events)
    assert told[:3] == [ROLE, {"reasoning_content": "ab"}, {"content": "c"}]
    calls = [delta["tool_calls"][0] for delta in told[3:-1]]
    assert [call["index"] for call in calls] == [0, 0, 1, 1]
    assert [call["function"].get("name") for call in calls] == ["f", None, "g", None]
    assert [call["function"]["arguments"] for call in calls] == ["", "{}", "", "{}"]
    assert (events[-2]["choices"][0]["finish_reason"], events[-1]) == ("tool_calls", "[DONE]")


async def test_events_of_a_paused_transport(client: RawClient, backend: FakeBackend) -> None:
    """What gathers while the peer is slow is merged, finish included, and nothing is lost."""
    generation = await begun(client, backend)
    generation.events(CallBegin(0, "f"))
    await client.event()
    writer: Any = generation.consumer
    writer.on_paused()
    for _ in range(50):
        generation.events(CallArguments(0, "1"))
    generation.events(CallEnd(0, is_complete=True), ContentDelta("x"))
    generation.events(ContentDelta("y"))
    generation.finish()
    generation.done()

    events = await rest(client)

    assert deltas(events) == [
        {"tool_calls": [{"index": 0, "function": {"arguments": "1" * 50}}]},
        {"content": "xy"},
        {},
    ]
    assert events[-2]["choices"][0]["finish_reason"] == "tool_calls"


async def test_two_outputs_with_calls(client: RawClient, backend: FakeBackend) -> None:
    """Each counts its calls from 0, with ids of their own; no output opens before an earlier one.

    Clients that keep choices in a list append a new one wherever its index points.
    """
    generation = await begun(client, backend, n=3)
    generation.events(*whole_call(), index=1)
    generation.events(*whole_call(), *whole_call(1), index=0)
    generation.events(ContentDelta("none"), index=2)
    for index in range(3):
        generation.finish(index)
    generation.done()

    events = await rest(client)

    firsts = [event["choices"][0]["index"] for event in events[:3]]
    assert firsts == [0, 1, 1]
    messages = [streamed_message(events, index) for index in range(3)]
    assert [len(message.calls) for message in messages] == [2, 1, 0]
    assert len({call_id for message in messages for call_id in message.ids}) == 3
    assert [message.finish_reason for message in messages] == ["tool_calls", "tool_calls", "stop"]


async def test_a_second_output_without_an_event(client: RawClient, backend: FakeBackend) -> None:
    """One that ends at once opens those in front of it too; each has its role once."""
    generation = await begun(client, backend, n=2)
    generation.finish(1)
    generation.events(*whole_call())
    generation.finish(0)
    generation.done()

    events = await rest(client)

    roles = [event["choices"][0]["index"] for event in events[:2]]
    assert roles == [0, 1]
    assert [sum("role" in delta for delta in deltas(events, index)) for index in (0, 1)] == [1, 1]
    assert streamed_message(events, 0).calls == [("f", "{}")]


async def test_retry_before_delivery(client: RawClient, backend: FakeBackend) -> None:
    """A new attempt forgets the calls and counts of one that had delivered nothing."""
    client.post({**CALLING, "stream_options": {"include_usage": True}})
    generation = await backend.next_generation()
    generation.start()
    generation.events(*whole_call())
    generation.finish(reasoning=7)
    assert not generation.consumer.has_delivered
    generation.attempt()
    assert (await client.head()).status == 200
    generation.events(ContentDelta("kept"))
    generation.finish(reasoning=1)
    generation.done()

    events = await rest(client)

    assert deltas(events) == [ROLE, {"content": "kept"}, {}]
    assert events[-3]["choices"][0]["finish_reason"] == "stop"
    assert events[-2]["usage"]["completion_tokens_details"]["reasoning_tokens"] == 1


async def test_retry_after_the_headers(client: RawClient, backend: FakeBackend) -> None:
    """Headers alone are no delivery: the next attempt may begin with a call."""
    generation = await begun(client, backend)
    generation.attempt()
    generation.start()
    generation.events(*whole_call())
    generation.finish()
    generation.done()

    message = streamed_message(await rest(client))

    assert (message.content, message.calls) == (None, [("f", "{}")])


async def test_failure_within_a_call(client: RawClient, backend: FakeBackend) -> None:
    """What came before it stands, the error frame is last, and nothing finishes."""
    generation = await begun(client, backend)
    generation.events(CallBegin(0, "f"), CallArguments(0, "{"))
    generation.fail(LOST)

    *events, error = await rest(client)

    assert error["error"]["code"] == "worker_lost"
    message = streamed_message(events)
    assert (message.calls, message.finish_reason) == ([("f", "{")], None)
    assert await client.reader.read() == b""


async def test_failure_before_the_first_event(client: RawClient, backend: FakeBackend) -> None:
    """The error frame is all there is."""
    generation = await begun(client, backend)
    generation.fail(LOST)

    (error,) = await rest(client)

    assert error["error"]["code"] == "worker_lost"


async def test_a_lost_connection_takes_nothing(client: RawClient, backend: FakeBackend) -> None:
    """Events for a client that has left are dropped, and the request is aborted."""
    generation = await begun(client, backend)
    client.close()
    await generation.aborted.wait()
    writer: Any = generation.consumer
    assert writer._is_lost

    generation.events(*whole_call())

    assert not generation.consumer.has_delivered


async def test_the_older_form(client: RawClient, backend: FakeBackend) -> None:
    """`functions` stream one `function_call`, which has neither index nor id."""
    generation = await begun(client, backend, OLDER)
    generation.events(CallBegin(0, "f"))
    generation.events(CallArguments(0, '{"a":'))
    generation.events(CallArguments(0, "1}"), CallEnd(0, is_complete=True))
    generation.finish()
    generation.done()

    events = await rest(client)

    assert deltas(events) == [
        {
            "role": "assistant",
            "content": None,
            "function_call": {"name": "f", "arguments": ""},
            "refusal": None,
        },
        {"function_call": {"arguments": '{"a":'}},
        {"function_call": {"arguments": "1}"}},
        {},
    ]
    assert events[-2]["choices"][0]["finish_reason"] == "function_call"


async def test_the_older_form_has_one_call(client: RawClient, backend: FakeBackend) -> None:
    """A later call, which no guide allows, has no place there; text behind it has."""
    generation = await begun(client, backend, OLDER)
    generation.events(*whole_call(), *whole_call(1, '{"b":2}'), ContentDelta("."))
    generation.finish()
    generation.done()

    events = await rest(client)

    told = deltas(events)
    assert [delta for delta in told if "function_call" in delta][1:] == [
        {"function_call": {"arguments": "{}"}}
    ]
    assert streamed_text(events[1:]) == "."

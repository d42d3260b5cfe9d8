"""Streams on the wire: order, framing, odd protocols, failures and slow readers.

Everything runs on both event loops, since they tell of slow peers in their own ways.
"""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.http_server import EdgeServer
from headrace.common.v1 import errors_pb2
from headrace.rpc.errors import ServiceError
from tests.support.edge_server import (
    HELLO,
    RawClient,
    ask,
    parse_events,
    raw_client,
    running_edge,
    streamed_text,
)
from tests.support.fake_backend import FakeBackend, FakeGeneration

STREAM = {**HELLO, "stream": True}
LOST = ServiceError(errors_pb2.ERROR_REASON_WORKER_LOST, "worker gone")


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


async def begun(client: RawClient, backend: FakeBackend, **fields: Any) -> FakeGeneration:
    """A stream whose headers and role chunks have been read."""
    client.post({**STREAM, **fields})
    generation = await backend.next_generation()
    generation.start()
    assert (await client.head()).status == 200
    return generation


async def read_roles(client: RawClient) -> None:
    events = parse_events(await anext(client.chunks()))
    assert {"assistant"} == {event["choices"][0]["delta"]["role"] for event in events}


async def test_headers(client: RawClient, backend: FakeBackend) -> None:
    """A stream's headers forbid caching and buffering, and wait for the worker."""
    client.post(STREAM)
    generation = await backend.next_generation()
    head = asyncio.create_task(client.head())
    await asyncio.sleep(0)
    assert not head.done()
    generation.start()

    headers = (await head).headers

    assert headers["content-type"] == "text/event-stream; charset=utf-8"
    assert headers["cache-control"] == "no-cache"
    assert headers["x-accel-buffering"] == "no"
    assert "content-encoding" not in headers


async def test_order(client: RawClient, backend: FakeBackend) -> None:
    """Each delta is a chunk at once; finish, [DONE] and the end follow; the connection goes on."""
    generation = await begun(client, backend)
    await read_roles(client)
    assert not generation.consumer.has_delivered
    for text in ("He", "llo", "\u2028\r\n\n✓"):
        generation.text(text)
        event = await client.event()
        assert [{"content": text}] == [choice["delta"] for choice in event["choices"]]
        assert generation.consumer.has_delivered
    generation.finish(reason="length")
    assert (await client.event())["choices"][0]["finish_reason"] == "length"
    generation.done()

    assert await client.event() == "[DONE]"
    assert [] == [chunk async for chunk in client.chunks()]
    client.get("/health")
    assert (await client.response()).status == 200
    assert not generation.aborted.is_set()


async def test_empty_answer(client: RawClient, backend: FakeBackend) -> None:
    """An answer without text still has its role and finish; the finish counts as delivered."""
    generation = await begun(client, backend)
    await read_roles(client)
    generation.finish()
    assert generation.consumer.has_delivered
    generation.done()

    body = b"".join([chunk async for chunk in client.chunks()])
    finish, done = parse_events(body)
    assert (finish["choices"][0]["delta"], done) == ({}, "[DONE]")


async def test_http_1_0(client: RawClient, backend: FakeBackend) -> None:
    """An HTTP/1.0 client gets an unframed body that ends with the connection, whatever it asks."""
    client.post(STREAM, version="1.0", headers={"Connection": "keep-alive"})
    generation = await backend.next_generation()
    generation.answer(["one", "two"])

    response = await client.response()

    assert "transfer-encoding" not in response.headers
    events = parse_events(response.body)
    assert "onetwo" == streamed_text(events)
    assert events[-1] == "[DONE]"


async def test_text_before_headers(client: RawClient, backend: FakeBackend) -> None:
    """What comes in the turn of the start waits for the headers and loses nothing."""
    client.post({**STREAM, "n": 2})
    generation = await backend.next_generation()
    generation.start()
    generation.text("a", 0)
    generation.text("x", 1)
    generation.text("b", 0)
    generation.finish(1, "length")
    assert not generation.consumer.has_delivered
    generation.finish(0)
    generation.done()

    events = parse_events((await client.response()).body)

    assert ["ab", "x"] == [streamed_text(events, index) for index in (0, 1)]
    reasons = [e["choices"][0]["finish_reason"] for e in events[:-1]]
    assert [None, None, None, "stop", None, "length"] == reasons


async def test_retry_before_delivery(client: RawClient, backend: FakeBackend) -> None:
    """A new attempt forgets what an earlier one had not delivered."""
    client.post({**STREAM, "stream_options": {"include_usage": True}})
    generation = await backend.next_generation()
    generation.start(cached=3)
    generation.text("lost")
    generation.finish()
    assert not generation.consumer.has_delivered
    generation.usage.completion_tokens = [0]
    generation.attempt()
    # The headers go out between the loss and the new attempt's start: nothing of the old follows.
    assert (await client.head()).status == 200
    await read_roles(client)
    assert not generation.consumer.has_delivered
    generation.answer(["kept"])

    events = parse_events(b"".join([chunk async for chunk in client.chunks()]))

    assert "kept" == streamed_text(events)
    assert (10, 1, 0) == tuple(
        events[-2]["usage"][key] for key in ("prompt_tokens", "completion_tokens", "cached_tokens")
    )


async def test_failure_in_the_first_turn(client: RawClient, backend: FakeBackend) -> None:
    """A failure before the headers are out keeps its status, though the worker had started."""
    client.post(STREAM)
    generation = await backend.next_generation()
    generation.start()
    generation.text("never seen")
    generation.fail(LOST)

    response = await client.response()

    assert (502, "worker_lost") == (response.status, response.error["code"])


async def test_failure_in_stream(client: RawClient, backend: FakeBackend) -> None:
    """A failure after the headers is a frame, no [DONE], and the connection ends."""
    generation = await begun(client, backend)
    generation.text("partly")
    generation.fail(LOST)

    body = b"".join([chunk async for chunk in client.chunks()])

    *events, error = parse_events(body)
    assert "partly" == streamed_text(events)
    assert {
        "error": {
            "message": "worker gone",
            "type": "server_error",
            "param": None,
            "code": "worker_lost",
        }
    } == error
    assert await client.reader.read() == b""


async def test_deadline_in_stream(backend: FakeBackend) -> None:
    """A request that takes too long ends with an error frame and is aborted."""
    async with (
        running_edge(backend, backend={"request_timeout_seconds": 0.1}) as edge,
        raw_client(edge.port) as client,
    ):
        generation = await begun(client, backend)
        body = b"".join([chunk async for chunk in client.chunks()])

    assert parse_events(body)[-1]["error"]["code"] == "deadline_exceeded"
    assert generation.aborted.is_set()


async def test_deadline_before_headers(backend: FakeBackend) -> None:
    """A request that takes too long before its headers has the status of it."""
    async with running_edge(backend, backend={"request_timeout_seconds": 0.1}) as edge:
        response = await ask(edge.port, STREAM)

    assert (504, "deadline_exceeded") == (response.status, response.error["code"])
    assert backend.generations[0].aborted.is_set()


TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)


@given(st.lists(st.tuples(st.integers(0, 2), TEXT), max_size=30), st.booleans())
def test_framing(deltas: list[tuple[int, str]], is_chunked: bool) -> None:
    """Any deltas of any outputs come back whole, through either framing."""
    assert asyncio.run(_texts_through(deltas, is_chunked=is_chunked)) == [
        "".join(text for index, text in deltas if index == wanted) for wanted in range(3)
    ]


async def _texts_through(deltas: list[tuple[int, str]], *, is_chunked: bool) -> list[str]:
    backend = FakeBackend(texts=None)
    async with running_edge(backend) as edge, raw_client(edge.port) as client:
        client.post({**STREAM, "n": 3}, version="1.1" if is_chunked else "1.0")
        generation = await backend.next_generation()
        generation.start()
        reading = asyncio.create_task(client.response())
        for number, (index, text) in enumerate(deltas):
            generation.text(text, index)
            if number % 3 == 0:
                await asyncio.sleep(0)
        for index in range(3):
            generation.finish(index)
        generation.done()
        events = parse_events((await reading).body)
    return [streamed_text(events, index) for index in range(3)]

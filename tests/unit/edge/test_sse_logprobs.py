"""Streams and whole answers with log probabilities: entries go where their text goes."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from headrace.client.answer_events import TokenLogprob
from tests.support.edge_server import HELLO, RawClient, ask, parse_events, raw_client, running_edge
from tests.support.fake_backend import MODEL, FakeBackend, FakeGeneration

ASKING = {**HELLO, "logprobs": True, "top_logprobs": 1}
SERVED = replace(
    MODEL, honoured_fields=MODEL.honoured_fields | {"logprobs"}, max_logprobs=20, max_outputs=4
)
FACE = "😀".encode()


@pytest.fixture
def backend() -> FakeBackend:
    return FakeBackend(texts=None, models=(SERVED,))


def token(raw: bytes, logprob: float = -0.5) -> TokenLogprob:
    return TokenLogprob(raw, logprob, ((b"other", -1.5),))


async def begun(client: RawClient, backend: FakeBackend, **fields: Any) -> FakeGeneration:
    """A stream whose headers and role chunks have been read."""
    client.post({**ASKING, "stream": True, **fields})
    generation = await backend.next_generation()
    generation.start()
    assert (await client.head()).status == 200
    await anext(client.chunks())
    return generation


def contents(events: Sequence[Any], index: int = 0) -> list[tuple[str, list[int]]]:
    """Of one output: each event's text and the bytes of its entries."""
    return [
        (
            choice["delta"]["content"],
            [byte for entry in choice["logprobs"]["content"] for byte in entry["bytes"]],
        )
        for event in events
        if event != "[DONE]"
        for choice in event["choices"]
        if choice["index"] == index and choice["delta"].get("content")
    ]


async def rest(client: RawClient) -> list[Any]:
    return parse_events(b"".join([chunk async for chunk in client.chunks()]))


@pytest.mark.parametrize("version", ["1.1", "1.0"])
async def test_each_chunk_has_the_entries_of_its_text(backend: FakeBackend, version: str) -> None:
    """Deltas of several outputs carry their own; role and finish chunks have null."""
    async with running_edge(backend) as edge, raw_client(edge.port) as client:
        client.post({**ASKING, "stream": True, "n": 2}, version=version)
        generation = await backend.next_generation()
        generation.start()
        generation.tokens(token(b"Hi"))
        generation.tokens(*(token(FACE[i : i + 1]) for i in range(4)), index=1)
        generation.tokens(token(b" you"))
        for index in range(2):
            generation.finish(index)
        generation.done()
        events = parse_events((await client.response()).body)

    assert generation.options.logprobs == 1
    assert "".join(text for text, _ in contents(events)) == "Hi you"
    for index in range(2):
        for text, raw in contents(events, index):
            assert bytes(raw).decode() == text
    others = [
        choice["logprobs"]
        for event in events[:-1]
        for choice in event["choices"]
        if not choice["delta"].get("content")
    ]
    assert others == [None] * 4


async def test_a_delta_goes_out_at_once(backend: FakeBackend) -> None:
    """Once the stream is open every delta is a chunk of its own, with refusal and alternatives."""
    async with running_edge(backend) as edge, raw_client(edge.port) as client:
        generation = await begun(client, backend)
        generation.tokens(token(b"a", float("-inf")))
        event = await client.event()
        generation.finish()
        generation.done()
        await rest(client)

    assert event["choices"][0]["logprobs"] == {
        "content": [
            {
                "token": "a",
                "logprob": -9999.0,
                "bytes": [97],
                "top_logprobs": [
                    {"token": "other", "logprob": -1.5, "bytes": [*b"other"]},
                ],
            }
        ],
        "refusal": None,
    }


async def test_merged_deltas_keep_their_entries(backend: FakeBackend) -> None:
    """What gathers while the peer is slow goes out as one chunk with all entries, in order."""
    async with running_edge(backend) as edge, raw_client(edge.port) as client:
        generation = await begun(client, backend)
        writer: Any = generation.consumer
        writer.on_paused()
        words = [b"word%d " % number for number in range(50)]
        for word in words:
            generation.tokens(token(word))
        held = asyncio.ensure_future(client.event())
        event = await held
        generation.finish()
        generation.done()
        events = await rest(client)

    [(text, raw)] = contents([event])
    assert text.encode() == bytes(raw) == b"".join(words)
    assert len(event["choices"][0]["logprobs"]["content"]) == 50
    assert contents(events) == []


async def test_a_reader_too_slow_for_its_entries_is_dropped(backend: FakeBackend) -> None:
    """Entries are much larger than their text: what is held back of them has a bound of its own."""
    held = {"max_held_bytes": 100_000}
    async with running_edge(backend, streaming=held) as edge, raw_client(edge.port) as client:
        generation = await begun(client, backend, n=2)
        writer: Any = generation.consumer
        for _ in range(3):
            # What has gone out counts no more.
            writer.on_paused()
            for number in range(500):
                generation.tokens(token(b"word"), index=number % 2)
            await client.event()
            await client.event()
        writer.on_paused()
        for number in range(1000):
            generation.tokens(token(b"word"), index=number % 2)
        await generation.aborted.wait()
        with pytest.raises(ConnectionResetError):
            await client.reader.read()


async def test_a_new_attempt_forgets_entries_too(backend: FakeBackend) -> None:
    """Before the headers are out a retry voids text and entries alike."""
    async with running_edge(backend) as edge, raw_client(edge.port) as client:
        client.post({**ASKING, "stream": True})
        generation = await backend.next_generation()
        generation.tokens(token(b"void"))
        generation.attempt()
        generation.start()
        generation.tokens(token(b"kept"))
        generation.finish()
        generation.done()
        events = parse_events((await client.response()).body)

    assert contents(events) == [("kept", [*b"kept"])]


async def test_a_whole_answer_has_all_entries(backend: FakeBackend) -> None:
    """Each choice has those of its own text, of the last attempt; without text an empty list."""
    async with running_edge(backend) as edge:
        asked = asyncio.create_task(ask(edge.port, {**ASKING, "n": 2}))
        generation = await backend.next_generation()
        generation.start()
        generation.tokens(token(b"void"))
        generation.attempt()
        generation.start()
        generation.tokens(token(b"\xc3"), token(b"\xa9"))
        generation.tokens(token(b"!"))
        for index in range(2):
            generation.finish(index)
        generation.done()
        document = (await asked).json()

    first, second = (choice["logprobs"] for choice in document["choices"])
    assert [entry["bytes"] for entry in first["content"]] == [[0xC3], [0xA9], [33]]
    assert [entry["token"] for entry in first["content"]] == ["\ufffd", "\ufffd", "!"]
    assert second == {"content": [], "refusal": None}
    assert [choice["message"]["content"] for choice in document["choices"]] == ["é!", ""]


async def test_who_does_not_ask_gets_null(backend: FakeBackend) -> None:
    """False is the same as none; the plain writer is used."""
    async with running_edge(backend) as edge:
        asked = asyncio.create_task(ask(edge.port, {**HELLO, "logprobs": False}))
        generation = await backend.next_generation()
        generation.answer(["plain"])
        document = (await asked).json()

    assert generation.options.logprobs is None
    assert document["choices"][0]["logprobs"] is None

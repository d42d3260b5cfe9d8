"""Whatever a model says, in whatever pieces and however slow its reader: the same message."""

import asyncio
import itertools
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.openai.answer_shape import AnswerShape
from edge.openai.message_parts import MessageParts
from headrace.client.answer_events import (
    AnswerEvent,
    CallArguments,
    CallBegin,
    CallEnd,
    ContentDelta,
    ReasoningDelta,
    TokenLogprob,
)
from tests.support.chat_requests import WHOLE
from tests.support.edge_server import HELLO, parse_events, raw_client, running_edge
from tests.support.fake_backend import FakeBackend, FakeGeneration
from tests.support.streamed_calls import streamed_message

NUM_OUTPUTS = 3
F = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
CALLING = {**HELLO, "stream": True, "n": NUM_OUTPUTS, "tools": [F]}
TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=6)
PART = st.one_of(
    st.builds(lambda text: [ContentDelta(text)], TEXT),
    st.builds(lambda text: [ReasoningDelta(text)], TEXT),
    st.builds(
        # Numbered when they are played.
        lambda name, pieces, is_complete: [
            CallBegin(0, name),
            *(CallArguments(0, piece) for piece in pieces),
            CallEnd(0, is_complete),
        ],
        TEXT,
        st.lists(TEXT, max_size=4),
        st.booleans(),
    ),
)


def numbered(parts: Sequence[list[AnswerEvent]]) -> list[AnswerEvent]:
    """The parts one after another, their calls counted from 0."""
    events: list[AnswerEvent] = []
    call = -1
    for part in parts:
        call += isinstance(part[0], CallBegin)
        events += [
            e if isinstance(e, ContentDelta | ReasoningDelta) else e._replace(call=call)
            for e in part
        ]
    return events


@st.composite
def said(draw: st.DrawFn) -> list[list[tuple[AnswerEvent, ...]]]:
    """What each output says, write by write."""
    outputs = []
    for _ in range(NUM_OUTPUTS):
        events = numbered(draw(st.lists(PART, max_size=5)))
        cuts = sorted(draw(st.sets(st.integers(0, len(events)), max_size=len(events))))
        bounds = [0, *cuts, len(events)]
        pairs = itertools.pairwise(bounds)
        outputs.append([tuple(events[begin:end]) for begin, end in pairs if end > begin])
    return outputs


@settings(max_examples=60)
@given(
    said(),
    st.lists(st.sampled_from(["pause", "turn", "go"]), max_size=60),
    st.randoms(use_true_random=False),
    st.booleans(),
)
def test_any_events(writes: Any, steps: list[str], dice: Any, is_chunked: bool) -> None:
    """Calls, thoughts and text come back whole, each call's pieces at its index."""
    order = [index for index, output in enumerate(writes) for _ in output]
    dice.shuffle(order)

    events = asyncio.run(_through(writes, order, steps, is_chunked=is_chunked))

    for index, output in enumerate(writes):
        parts = MessageParts(AnswerShape("tools"))
        for write in output:
            parts.take(write)
        finished = parts.finished("stop", None)
        message = streamed_message(events, index)
        assert (message.content or "") == finished.text
        assert message.reasoning == finished.reasoning
        assert message.calls == [(call.name, call.arguments) for call in finished.calls]
        assert message.finish_reason == finished.finish_reason
    firsts = [event["choices"][0]["index"] for event in events[:-1] if "role" in _delta(event)]
    assert firsts == sorted(firsts) == list(range(NUM_OUTPUTS))


def _delta(event: dict[str, Any]) -> dict[str, Any]:
    delta: dict[str, Any] = event["choices"][0]["delta"]
    return delta


async def _through(
    writes: Any, order: list[int], steps: list[str], *, is_chunked: bool
) -> list[Any]:
    backend = FakeBackend(texts=None)
    async with running_edge(backend) as edge, raw_client(edge.port) as client:
        client.post(CALLING, version="1.1" if is_chunked else "1.0")
        generation = await backend.next_generation()
        generation.start()
        reading = asyncio.create_task(client.response())
        left = [iter(output) for output in writes]
        for number, index in enumerate(order):
            await _step(generation, steps[number % len(steps)] if steps else "go")
            generation.events(*next(left[index]), index=index)
        for index in reversed(range(NUM_OUTPUTS)):
            generation.finish(index)
        generation.done()
        return parse_events((await reading).body)


async def _step(generation: FakeGeneration, step: str) -> None:
    writer: Any = generation.consumer
    if step == "pause":
        writer.on_paused()
    elif step == "turn":
        await asyncio.sleep(0)


def token(text: str) -> TokenLogprob:
    return TokenLogprob(text.encode(), -0.5, ())


async def test_entries_of_merged_events() -> None:
    """What gathers while the peer is slow keeps all entries, in the first chunk that goes out."""
    backend = FakeBackend(texts=None, models=(WHOLE,))
    async with running_edge(backend) as edge, raw_client(edge.port) as client:
        client.post({**CALLING, "n": 1, "logprobs": True})
        generation = await backend.next_generation()
        generation.start()
        assert (await client.head()).status == 200
        generation.events(CallBegin(0, "f"), tokens=[token("<")])
        await client.event()
        writer: Any = generation.consumer
        writer.on_paused()
        for _ in range(5):
            generation.events(CallArguments(0, "1"), tokens=[token("1")])
        generation.events(CallEnd(0, is_complete=True), tokens=[token(">")])
        generation.events(ContentDelta("."), tokens=[token(".")])
        generation.finish()
        generation.done()
        events = parse_events(b"".join([chunk async for chunk in client.chunks()]))

    told = [event["choices"][0]["logprobs"] for event in events[:-1]]
    assert "".join(entry["token"] for entry in told[0]["content"]) == "11111>."
    assert told[1:] == [None, None]


@pytest.mark.parametrize("has_begun", [False, True])
async def test_entries_that_no_event_follows(has_begun: bool) -> None:
    """Those of a last write without events have a chunk that says nothing, behind the role."""
    backend = FakeBackend(texts=None, models=(WHOLE,))
    async with running_edge(backend) as edge, raw_client(edge.port) as client:
        client.post({**CALLING, "n": 1, "logprobs": True})
        generation = await backend.next_generation()
        generation.start()
        assert (await client.head()).status == 200
        if has_begun:
            generation.events(ContentDelta("a"), tokens=[token("a")])
        generation.events(tokens=[token("<end>")])
        assert generation.consumer.has_delivered
        generation.finish()
        generation.done()
        events = parse_events(b"".join([chunk async for chunk in client.chunks()]))

    last = events[-3]["choices"][0]
    assert (last["delta"], last["finish_reason"]) == ({}, None)
    assert [entry["token"] for entry in last["logprobs"]["content"]] == ["<end>"]
    assert _delta(events[0])["role"] == "assistant"


async def test_a_reader_too_slow_for_its_entries_is_dropped() -> None:
    """Entries that gather have the bound that those of plain text have."""
    backend = FakeBackend(texts=None, models=(WHOLE,))
    held = {"max_held_bytes": 50_000}
    async with running_edge(backend, streaming=held) as edge, raw_client(edge.port) as client:
        client.post({**CALLING, "n": 1, "logprobs": True})
        generation = await backend.next_generation()
        generation.start()
        assert (await client.head()).status == 200
        generation.events(CallBegin(0, "f"), tokens=[token("<")])
        await client.event()
        writer: Any = generation.consumer
        writer.on_paused()
        for _ in range(1000):
            generation.events(CallArguments(0, "word"), tokens=[token("word")])
        await generation.aborted.wait()
        with pytest.raises(ConnectionResetError):
            await client.reader.read()

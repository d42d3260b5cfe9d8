"""Answers with calls, byte for byte and as the official client joins them."""

import dataclasses
import json
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import openai
import pytest
from openai.types.chat import ChatCompletion

from tests.conformance.golden_files import FOLDER, GoldenFiles
from tests.conformance.transcripts import masked
from tests.support.call_scenes import FINISHES, SCENES, TOOLS
from tests.support.chat_requests import WHOLE
from tests.support.edge_server import HELLO, raw_client, running_edge
from tests.support.fake_backend import MODEL, FakeBackend, FakeGeneration

PROFILES = ("openai", "lenient")
CALL_ID = re.compile(rb'"id":"(call_[A-Za-z0-9]{24})"')
_SERVED = dataclasses.replace(WHOLE, max_outputs=4)
_MESSAGES = [{"role": "user", "content": "What is the weather in Oslo?"}]


def _with_call_ids(transcript: bytes) -> bytes:
    """Ids by their order; that none comes twice is checked."""
    ids = CALL_ID.findall(transcript)
    assert len(set(ids)) == len(ids)
    for number, call_id in enumerate(ids):
        transcript = transcript.replace(call_id, b"call_%d" % number)
    return transcript


@pytest.mark.wire("E1", "E3.tools", "E13.index", "E13.first_delta", "E13.functions", "C11", "C14")
@pytest.mark.parametrize("name", SCENES)
async def test_stream(golden: GoldenFiles, name: str) -> None:
    """Each stream is the one on record, every event where it was."""
    fields, play = SCENES[name]
    backend = FakeBackend(texts=None, models=(_SERVED,))
    async with running_edge(backend) as edge, raw_client(edge.port) as client:
        client.post({**HELLO, **fields, "stream": True})
        generation = await backend.next_generation()
        generation.start(cached=4)
        # What is said before the headers are out would be joined.
        assert (await client.head()).status == 200
        play(generation)
        stream = b"".join([chunk async for chunk in client.chunks()])

    golden.compare(f"exact-calls-{name}.sse", _with_call_ids(masked(stream)))


@pytest.mark.wire("A3.response", "A4.response", "E3.tools", "E6", "E12", "A5.message_extras")
@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("name", SCENES)
async def test_whole_answer(golden: GoldenFiles, name: str, profile: str) -> None:
    """Each whole answer is the one on record, in the profile's shape."""
    fields, play = SCENES[name]
    backend = FakeBackend(texts=None, models=(_SERVED,))
    hosts = {"profile.example": profile}
    body = {key: value for key, value in fields.items() if key != "stream_options"}
    async with running_edge(backend, hosts=hosts) as edge, raw_client(edge.port) as client:
        client.post({**HELLO, **body}, headers={"Host": "profile.example"})
        generation = await backend.next_generation()
        generation.start(cached=4)
        play(generation)
        response = await client.response()

    assert response.status == 200, response.body
    transcript = _with_call_ids(masked(response.body)) + b"\n"
    golden.compare(f"exact-calls-{name}-{profile}.json", transcript)


def test_no_transcript_is_left_over(golden: GoldenFiles) -> None:
    """Every file on record belongs to a test."""
    if golden.is_update:
        pytest.skip("the records are being written")
    expected = {f"exact-calls-{name}.sse" for name in SCENES}
    expected |= {f"exact-calls-{name}-{profile}.json" for name in SCENES for profile in PROFILES}

    assert {file.name for file in FOLDER.glob("exact-calls-*")} == expected


@asynccontextmanager
async def _client(play: Callable[[FakeGeneration], None]) -> AsyncIterator[openai.AsyncOpenAI]:
    """The official client of an edge whose backend answers like this."""

    def begin(generation: FakeGeneration) -> None:
        generation.start()
        play(generation)

    backend = FakeBackend(play=begin, models=(_SERVED,))
    async with (
        running_edge(backend) as edge,
        openai.AsyncOpenAI(
            base_url=f"http://127.0.0.1:{edge.port}/v1", api_key="k", max_retries=0
        ) as client,
    ):
        yield client


async def _both_ways(name: str) -> tuple[ChatCompletion, ChatCompletion]:
    """The answer of a scene: whole, and as the client's stream helper joins it."""
    fields, play = SCENES[name]
    body = {key: value for key, value in fields.items() if key != "stream_options"}
    async with _client(play) as client:
        arguments = {"model": MODEL.name, "messages": _MESSAGES, **body}
        whole = await client.chat.completions.create(**arguments)
        try:
            async with client.chat.completions.stream(**arguments) as stream:
                joined: ChatCompletion = await stream.get_final_completion()
        except openai.LengthFinishReasonError as error:
            joined = error.completion
    return whole, joined


@pytest.mark.wire("E3.tools", "E13.arguments", "E13.ids", "E13.finish", "E13.functions", "C8")
@pytest.mark.parametrize("name", SCENES)
async def test_the_client_joins_what_a_whole_answer_says(name: str) -> None:
    """Streamed and whole say the same: text, calls, finish and log probabilities."""
    whole, joined = await _both_ways(name)

    assert len(joined.choices) == len(whole.choices) == len(FINISHES[name])
    for finish, one, other in zip(FINISHES[name], whole.choices, joined.choices, strict=True):
        assert one.finish_reason == other.finish_reason == finish
        assert one.message.content == (other.message.content or None)
        assert _functions(one.message.tool_calls) == _functions(other.message.tool_calls)
        assert (one.message.function_call is None) == (other.message.function_call is None)
        if one.message.function_call is not None and other.message.function_call is not None:
            assert one.message.function_call.to_dict() == other.message.function_call.to_dict()
        assert (one.logprobs and one.logprobs.to_dict()) == (
            other.logprobs and other.logprobs.to_dict()
        )


def _functions(calls: object) -> list[tuple[str, str, str]]:
    """Kind, name and arguments of calls; ids are minted for each answer."""
    assert calls is None or isinstance(calls, list)
    ids = [call.id for call in calls or ()]
    assert len(set(ids)) == len(ids)
    assert all(re.fullmatch("call_[A-Za-z0-9]{24}", call_id) for call_id in ids)
    return [(call.type, call.function.name, call.function.arguments) for call in calls or ()]


@pytest.mark.wire("E6", "E13.arguments")
async def test_logprobs_are_those_of_all_tokens() -> None:
    """Entries spell the whole answer, markup and thoughts included, in their order."""
    for answer in await _both_ways("logprobs"):
        logprobs = answer.choices[0].logprobs
        assert logprobs is not None
        spelt = "".join(entry.token for entry in logprobs.content or ())
        assert spelt == (
            'Two things.Looking it up.<tool_call>{"city": "Oslo"}</tool_call><get_time>'
        )


@pytest.mark.wire("E13.parallel", "E13.index", "E13.ids", "C14")
async def test_parallel_calls_are_numbered() -> None:
    """Calls of one message have indexes of their own, and each delta names its call's."""
    fields, play = SCENES["everything"]
    async with _client(play) as client:
        stream = await client.chat.completions.create(
            model=MODEL.name, messages=_MESSAGES, stream=True, **fields
        )
        calls = [
            call
            async for chunk in stream
            for choice in chunk.choices
            for call in choice.delta.tool_calls or ()
        ]

    arguments: dict[int, str] = {}
    for call in calls:
        assert (call.id is None) == (call.type is None) == (call.index in arguments)
        assert call.function is not None
        assert (call.function.name is None) == (call.index in arguments)
        arguments.setdefault(call.index, "")
        arguments[call.index] += call.function.arguments or ""
    assert {index: json.loads(text) for index, text in arguments.items()} == {
        0: {"city": "Oslo"},
        1: {},
    }


@pytest.mark.wire("E13.index", "C14")
async def test_choices_that_open_out_of_order() -> None:
    """The client's helper numbers choices as they come, and still keeps each one's calls."""
    _, joined = await _both_ways("two-outputs")

    names = [[name for _, name, _ in _functions(c.message.tool_calls)] for c in joined.choices]
    assert names == [["get_weather", "get_time"], ["get_time"]]


@pytest.mark.wire("A3.usage", "E4")
async def test_usage_tells_thoughts() -> None:
    """Tokens of thoughts are counted among the completion's, in streams too."""
    fields, play = SCENES["everything"]
    async with _client(play) as client:
        stream = await client.chat.completions.create(
            model=MODEL.name, messages=_MESSAGES, stream=True, **fields
        )
        last = [chunk async for chunk in stream][-1]
        whole = await client.chat.completions.create(
            model=MODEL.name, messages=_MESSAGES, tools=TOOLS
        )

    for usage in (last.usage, whole.usage):
        assert usage is not None
        assert usage.completion_tokens_details is not None
        assert usage.completion_tokens_details.reasoning_tokens == 1
        assert usage.completion_tokens == 11

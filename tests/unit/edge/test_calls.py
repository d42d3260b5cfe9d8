"""Answers with calls: whole ones, schemas, log lines, and refusals that name the client's field."""

import asyncio
from typing import Any

import pytest
import structlog

from bench.fuzz.schema_book import SchemaBook
from edge.openai.openapi import schema_name
from edge.profile_data import shipped_profiles
from headrace.client.answer_events import (
    CallArguments,
    CallBegin,
    CallEnd,
    ContentDelta,
    ReasoningDelta,
    TokenLogprob,
)
from headrace.common.v1 import errors_pb2
from headrace.rpc.errors import ServiceError
from tests.support.call_scenes import NAMED, SCENES, TOOLS, one_call
from tests.support.chat_requests import WHOLE
from tests.support.edge_server import HELLO, ask, parse_events, raw_client, running_edge
from tests.support.fake_backend import FakeBackend, FakeGeneration

PROFILES = sorted(shipped_profiles())
CALLING = {**HELLO, "tools": TOOLS}
NO_ENTRIES: dict[str, Any] = {"content": [], "refusal": None}
BAD_SCHEMA = ServiceError(
    errors_pb2.ERROR_REASON_INVALID_REQUEST, "uniqueItems cannot be enforced", "tools[1].parameters"
)


def served(play: Any = None) -> FakeBackend:
    """A backend whose model honours everything."""

    def begin(generation: FakeGeneration) -> None:
        generation.start()
        play(generation)

    return FakeBackend(texts=None, play=play and begin, models=(WHOLE,))


async def whole_answer(play: Any, **fields: Any) -> dict[str, Any]:
    """The only choice of a whole answer."""
    async with running_edge(served(play)) as edge:
        response = await ask(edge.port, {**CALLING, **fields})
    assert response.status == 200, response.body
    (choice,) = response.json()["choices"]
    return choice


async def test_a_call_that_broke_off() -> None:
    """It stays as far as it came, and what follows is content; nothing is there to be called."""

    def play(generation: FakeGeneration) -> None:
        generation.events(CallBegin(0, "f"), CallArguments(0, '{"a'), CallEnd(0, is_complete=False))
        generation.events(ContentDelta("so"))
        generation.finish()
        generation.done()

    choice = await whole_answer(play)

    assert choice["finish_reason"] == "stop"
    assert choice["message"]["content"] == "so"
    assert [call["function"] for call in choice["message"]["tool_calls"]] == [
        {"name": "f", "arguments": '{"a'}
    ]


async def test_an_answer_of_nothing() -> None:
    """Where nothing is said and nothing called the content is empty, not null."""

    def play(generation: FakeGeneration) -> None:
        generation.finish()
        generation.done()

    message = (await whole_answer(play))["message"]

    assert message == {"role": "assistant", "content": "", "refusal": None, "annotations": []}


async def test_a_new_attempt_forgets_everything() -> None:
    """Calls, thoughts, counts and entries of an attempt that was lost are not in the answer."""
    token = (TokenLogprob(b"x", -0.5, ()),)

    def play(generation: FakeGeneration) -> None:
        generation.events(ReasoningDelta("void"), CallBegin(0, "void"), tokens=token)
        generation.finish(reasoning=5)
        generation.attempt()
        generation.start()
        generation.events(CallBegin(0, "f"), CallArguments(0, "{}"), CallEnd(0, is_complete=True))
        generation.finish()
        generation.done()

    choice = await whole_answer(play, logprobs=True)

    assert "reasoning_content" not in choice["message"]
    assert choice["message"]["content"] is None
    assert [call["function"]["name"] for call in choice["message"]["tool_calls"]] == ["f"]
    assert choice["logprobs"] == NO_ENTRIES


async def test_the_older_form_has_one_call() -> None:
    """A later call has no place there, and does not change the first; the log line counts it."""

    def play(generation: FakeGeneration) -> None:
        for call in range(2):
            generation.events(
                CallBegin(call, f"f{call}"), CallArguments(call, "{}"), CallEnd(call, True)
            )
        generation.finish()
        generation.done()

    with structlog.testing.capture_logs() as logs:
        choice = await whole_answer(play, tools=None, functions=[{"name": "f0"}, {"name": "f1"}])

    assert choice["message"]["function_call"] == {"name": "f0", "arguments": "{}"}
    assert choice["finish_reason"] == "function_call"
    (line,) = [line for line in logs if line["event"] == "request_served"]
    assert (line["num_calls"], line["num_calls_dropped"]) == (1, 1)


@pytest.mark.parametrize(
    ("choice", "label"),
    [(None, "auto"), ("auto", "auto"), ("required", "required"), (NAMED, "named")],
)
@pytest.mark.parametrize("stream", [False, True])
async def test_the_log_line_counts(choice: Any, label: str, stream: bool) -> None:
    """It says how many functions there were, how they were chosen and how many were called."""
    with structlog.testing.capture_logs() as logs:
        async with running_edge(served(one_call)) as edge:
            fields = {"tool_choice": choice, "stream": stream}
            response = await ask(edge.port, {**CALLING, **fields})
            assert response.status == 200

    (line,) = [line for line in logs if line["event"] == "request_served"]
    assert (line["num_tools"], line["tool_choice"], line["num_calls"]) == (2, label, 1)
    assert "num_calls_dropped" not in line
    assert "get_weather" not in repr(line)


async def test_the_log_line_counts_thoughts() -> None:
    """Tokens of thoughts stand beside those of the whole completion."""
    fields, play = SCENES["everything"]
    with structlog.testing.capture_logs() as logs:
        async with running_edge(served(play)) as edge:
            assert (await ask(edge.port, {**HELLO, **fields, "stream": True})).status == 200

    (line,) = [line for line in logs if line["event"] == "request_served"]
    assert (line["completion_tokens"], line["reasoning_tokens"], line["num_calls"]) == (11, 1, 2)


async def test_the_log_line_without_tools() -> None:
    """A plain request's line has none of it."""
    with structlog.testing.capture_logs() as logs:
        async with running_edge(FakeBackend()) as edge:
            assert (await ask(edge.port, HELLO)).status == 200

    (line,) = [line for line in logs if line["event"] == "request_served"]
    counts = {"reasoning_tokens", "num_tools", "tool_choice", "num_calls", "num_calls_dropped"}
    assert not line.keys() & counts


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("name", SCENES)
async def test_answers_are_as_described(name: str, profile: str) -> None:
    """Whole answers and chunks with calls and thoughts fit the OpenAPI document's schemas."""
    fields, play = SCENES[name]
    hosts = {f"{profile}.test": profile}
    async with running_edge(served(play), hosts=hosts) as edge, raw_client(edge.port) as client:
        client.get("/openapi.json")
        book = SchemaBook((await client.response()).json())
        for stream in (False, True):
            body = {**HELLO, **fields, "stream": stream}
            if not stream:
                body.pop("stream_options", None)
            response = await ask(edge.port, body, headers={"Host": f"{profile}.test"})
            assert response.status == 200, response.body
            if not stream:
                schema = schema_name("ChatCompletion", profile)
                assert book.problem(schema, response.json()) is None
                continue
            for event in parse_events(response.body)[:-1]:
                assert book.problem(schema_name("ChatCompletionChunk", profile), event) is None


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("place", ["render", "generate", "answer"])
async def test_refusals_name_the_clients_field(place: str, stream: bool) -> None:
    """What the services say of their own fields comes back with the request's, before headers."""
    backend = served(lambda generation: generation.fail(BAD_SCHEMA))
    if place == "render":
        backend.render_error = BAD_SCHEMA
    if place == "generate":
        backend.generate_error = BAD_SCHEMA
    tools = [None, *TOOLS]
    async with running_edge(backend) as edge:
        response = await ask(edge.port, {**HELLO, "tools": tools, "stream": stream})

    assert response.status == 400
    assert response.error["param"] == "tools[2].function.parameters"
    assert "get_time" in response.error["message"]


async def test_a_refusal_in_the_stream_names_the_clients_field() -> None:
    """The same behind the headers, in the error frame."""
    backend = served()
    async with running_edge(backend) as edge, raw_client(edge.port) as client:
        client.post({**CALLING, "stream": True})
        generation = await backend.next_generation()
        generation.start()
        assert (await client.head()).status == 200
        await asyncio.sleep(0)
        generation.fail(BAD_SCHEMA)
        events = parse_events(b"".join([chunk async for chunk in client.chunks()]))

    assert [event["error"]["param"] for event in events] == ["tools[1].function.parameters"]

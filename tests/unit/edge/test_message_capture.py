"""Prompts and answers on the model span: only where that is switched on, and within a bound."""

import json
from dataclasses import replace
from typing import Any

import pytest

from edge.message_capture import MAX_CHARACTERS, AnswerCapture, input_messages, tool_definitions
from edge.openai.chat_request import parse_chat_request
from headrace.client.answer_events import (
    CallArguments,
    CallBegin,
    CallEnd,
    ContentDelta,
    ReasoningDelta,
    TokenLogprob,
)
from headrace.client.answers import OutputResult
from headrace.client.prompt_request import ChatMessage, Function, ToolCall
from tests.support.edge_server import HELLO, ask, running_edge, wait_until
from tests.support.fake_backend import MODEL, FakeBackend
from tests.support.recording_consumer import RecordingConsumer
from tests.support.span_recorder import SpanRecorder

CONTENT = ("gen_ai.input.messages", "gen_ai.output.messages", "gen_ai.tool.definitions")
TOOL = {"type": "function", "function": {"name": "now", "parameters": {"type": "object"}}}


def asked(*messages: dict[str, Any]) -> Any:
    """What a span says of a conversation."""
    document = {"model": "m", "messages": messages}
    return json.loads(input_messages(parse_chat_request(json.dumps(document).encode())))


def test_each_kind_of_message_has_its_parts() -> None:
    """Text, thoughts, calls and results as the conventions have them."""
    call = {"id": "c1", "type": "function", "function": {"name": "now", "arguments": '{"a": 1}'}}
    found = asked(
        {"role": "system", "content": "be brief"},
        {"role": "user", "content": "time?", "name": "ann"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": "noon"},
    )

    called = {"type": "tool_call", "id": "c1", "name": "now", "arguments": {"a": 1}}
    answered = {"type": "tool_call_response", "id": "c1", "response": "noon"}
    assert [
        {"role": "system", "parts": [{"type": "text", "content": "be brief"}]},
        {"role": "user", "parts": [{"type": "text", "content": "time?"}], "name": "ann"},
        {"role": "assistant", "parts": [called]},
        {"role": "tool", "parts": [answered]},
    ] == found


def test_of_a_long_conversation_the_newest_stays() -> None:
    """What is beyond the bound is left out; what is there is whole JSON."""
    old, new = "o" * MAX_CHARACTERS, "n" * (MAX_CHARACTERS - 10)
    found = asked(*({"role": "user", "content": text} for text in (old, old, new)))

    assert ["o" * 10, new] == [message["parts"][0]["content"] for message in found]


def test_functions_have_their_schemas_while_there_is_room() -> None:
    """A schema is JSON within the JSON; one that is cut is its text's beginning."""
    large = '{"description": "' + "x" * MAX_CHARACTERS + '"}'
    tools = [Function("a", "does a", '{"type": "object"}'), Function("b", None, large)]
    first, second = json.loads(tool_definitions(tools))

    assert {
        "type": "function",
        "name": "a",
        "description": "does a",
        "parameters": {"type": "object"},
    } == first
    assert large.startswith(second["parameters"])


def test_an_answer_is_handed_on_and_kept() -> None:
    """Events become parts, neighbours one; the consumer hears all of it."""
    consumer = RecordingConsumer()
    capture = AnswerCapture(consumer, 1)
    write = capture.event_writer(0)
    write([ReasoningDelta("hm"), ReasoningDelta("m"), ContentDelta("so")], ())
    write([CallBegin(0, "a"), CallArguments(0, "{}"), CallEnd(0, True), CallBegin(1, "b")], ())
    capture.on_finish(0, OutputResult("stop", 5))
    (message,) = json.loads(capture.output_messages())

    assert [
        {"type": "reasoning", "content": "hmm"},
        {"type": "text", "content": "so"},
        {"type": "tool_call", "id": "", "name": "a", "arguments": {}},
        {"type": "tool_call", "id": "", "name": "b", "arguments": ""},
    ] == message["parts"]
    assert ("assistant", "tool_call") == (message["role"], message["finish_reason"])
    assert 2 == len(consumer.event_calls[0])
    assert consumer.has_delivered == capture.has_delivered


def test_a_new_attempt_begins_anew() -> None:
    """What a lost attempt said is not told, nor does it take room; an open end is an error."""
    capture = AnswerCapture(RecordingConsumer(), 2)
    capture.text_writer(0)("x" * MAX_CHARACTERS)
    capture.on_finish(1, OutputResult("stop", 1))
    write, other = capture.text_writer(0), capture.logprobs_writer(1)
    write("a" * (MAX_CHARACTERS - 1))
    other("bc", [TokenLogprob(b"bc", -1.0, ())])
    capture.on_finish(0, OutputResult("length", 5))
    first, second = json.loads(capture.output_messages())

    assert ("length", "error") == (first["finish_reason"], second["finish_reason"])
    assert "b" == second["parts"][0]["content"]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("is_on", [False, True])
async def test_content_is_on_spans_only_where_it_was_switched_on(is_on: bool, stream: bool) -> None:
    """By default no span has a word of what was asked or answered."""
    recorder, backend = SpanRecorder(), FakeBackend(texts=("the ", "answer"))
    settings = {"tracing": {"capture_messages": is_on}}
    async with running_edge(backend, tracing=recorder, telemetry=settings) as edge:
        response = await ask(edge.port, {**HELLO, "stream": stream, "tools": [TOOL]})
        await wait_until(lambda: not recorder.unended)
    (chat,) = recorder.named(f"chat {MODEL.name}")

    assert b"answer" in response.body
    assert is_on == ("answer" in str(recorder.spans))
    assert is_on == all(name in chat.attributes for name in CONTENT)
    if is_on:
        (message,) = json.loads(chat.attributes["gen_ai.output.messages"])
        assert [{"type": "text", "content": "the answer"}] == message["parts"]


def test_documents_may_be_nested_deeply() -> None:
    """What a client or a model nests too deeply for a writer of JSON is there as it was spelled."""
    deep = "[" * 900 + "]" * 900
    calls = (ToolCall("c1", "now", deep),)
    capture = AnswerCapture(RecordingConsumer(), 1)
    write = capture.event_writer(0)
    write([CallBegin(0, "now"), CallArguments(0, deep), CallEnd(0, is_complete=True)], ())

    for text in (
        said(ChatMessage("assistant", None, tool_calls=calls)),
        capture.output_messages(),
        tool_definitions([Function("f", "", deep)]),
    ):
        assert deep in text
        assert json.loads(text)


def test_names_ids_and_calls_have_bounds_too() -> None:
    """Not only texts: a span says no more of many calls with long ids."""
    calls = (ToolCall("i" * 256, "n" * 64, "{}"),) * 1_000
    text = said(*[ChatMessage("assistant", None, tool_calls=calls)] * 100)

    assert len(text) < 2 * MAX_CHARACTERS
    assert json.loads(text)


def said(*messages: ChatMessage) -> str:
    """The attribute of a conversation that was checked before."""
    document = {"model": "m", "messages": [{"role": "user", "content": "x"}]}
    chat = parse_chat_request(json.dumps(document).encode())
    return input_messages(replace(chat, messages=messages))

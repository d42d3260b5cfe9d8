"""Conversations over HTTP: what each role may hold, and what of it reaches the backend."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from edge.http_server import EdgeServer
from headrace.client.prompt_request import ChatMessage, ToolCall
from tests.support.edge_server import HELLO, ask, running_edge
from tests.support.fake_backend import FakeBackend

STRICT, LENIENT = "/v1/chat/completions", "/api/v1/chat/completions"
_CALL = {"id": "c1", "type": "function", "function": {"name": "look", "arguments": "{}"}}
_PARTS = [{"type": "text", "text": "two "}, {"type": "text", "text": "parts"}]
HISTORY: list[tuple[dict[str, Any], ChatMessage]] = [
    (
        {"role": "system", "content": _PARTS, "name": "rules"},
        ChatMessage("system", "two parts", "rules"),
    ),
    ({"role": "developer", "content": "b"}, ChatMessage("developer", "b")),
    ({"role": "user", "content": _PARTS, "name": "ann"}, ChatMessage("user", "two parts", "ann")),
    (
        {
            "role": "assistant",
            "content": None,
            "refusal": None,
            "audio": None,
            "function_call": None,
            "reasoning_content": "hm",
            "tool_calls": [_CALL, None],
        },
        ChatMessage(
            "assistant",
            None,
            tool_calls=(ToolCall("c1", "look", "{}"),),
            reasoning_content="hm",
        ),
    ),
    (
        {"role": "tool", "content": _PARTS, "tool_call_id": "c1"},
        ChatMessage("tool", "two parts", tool_call_id="c1"),
    ),
    (
        {"role": "assistant", "content": None, "function_call": {"name": "f", "arguments": "1"}},
        ChatMessage("assistant", None, tool_calls=(ToolCall("", "f", "1"),)),
    ),
    (
        {"role": "function", "content": None, "name": "f"},
        ChatMessage("function", None, "f"),
    ),
    (
        {"role": "assistant", "content": "", "refusal": "I will not."},
        ChatMessage("assistant", "", refusal="I will not."),
    ),
    ({"role": "user", "content": ""}, ChatMessage("user", "")),
]


@pytest.fixture
def backend() -> FakeBackend:
    return FakeBackend()


@pytest.fixture
async def edge(backend: FakeBackend) -> AsyncIterator[EdgeServer]:
    async with running_edge(backend) as edge:
        yield edge


@pytest.mark.wire("E12", "A5.roles", "A3.messages", "A3.name", "A4.messages")
@pytest.mark.parametrize("path", [STRICT, LENIENT])
async def test_a_whole_history(edge: EdgeServer, backend: FakeBackend, path: str) -> None:
    """Every role, in every form of content, with nulls that say nothing, arrives whole."""
    messages = [given for given, _ in HISTORY]

    response = await ask(edge.port, {**HELLO, "messages": messages}, path=path)

    assert response.status == 200, response.body
    assert "x-headrace-ignored" not in response.headers
    assert list(backend.conversations[0]) == [expected for _, expected in HISTORY]


@pytest.mark.wire("A5.message_extras", "A5.roles", "A3.name", "A4.messages")
async def test_what_the_documents_write_in_it(edge: EdgeServer, backend: FakeBackend) -> None:
    """Names like `<string>`, and a system message alone that carries calls: lenient alone."""
    message = {"role": "system", "content": "<string>", "name": "<string>", "tool_calls": [_CALL]}

    lenient = await ask(edge.port, {**HELLO, "messages": [message]}, path=LENIENT)
    strict = await ask(edge.port, {**HELLO, "messages": [message]}, path=STRICT)

    assert lenient.headers["x-headrace-ignored"] == "messages[].tool_calls"
    assert list(backend.conversations[0]) == [ChatMessage("system", "<string>", "<string>")]
    assert (400, "messages[0].name") == (strict.status, strict.error["param"])

"""Every failure that the specification lists, as a client sees it: one case a row of E7."""

import dataclasses
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from edge.http_server import EdgeServer
from headrace.common.v1 import errors_pb2 as pb
from headrace.rpc.errors import ERROR_TABLE, Reason, ServiceError
from tests.support.chat_requests import WHOLE
from tests.support.edge_server import (
    CHAT,
    HELLO,
    RawResponse,
    ask,
    parse_events,
    raw_client,
    request_head,
    running_edge,
)
from tests.support.fake_backend import FakeBackend
from tests.support.keys import KEY, OTHER_KEY, entry, write_keys

USER = {"role": "user", "content": "x"}
TOOL = {"type": "function", "function": {"name": "bad name"}}
LENIENT_CHAT = "/api/v1/chat/completions"
_INVALID = "invalid_request_error"
_SERVER = "server_error"
_BUSY = "service_unavailable_error"


def require_error(
    response: RawResponse, status: int, kind: str, param: str | None, code: str | None
) -> str:
    """The envelope with all four keys under JSON's own content type; gives the message."""
    assert response.status == status, response.body
    assert response.headers["content-type"] == "application/json"
    assert response.headers["x-request-id"].startswith("req_")
    error = response.error
    assert (kind, param, code) == (error["type"], error["param"], error["code"])
    message: str = error["message"]
    assert message
    return message


@pytest.fixture
def backend() -> FakeBackend:
    return FakeBackend(models=(WHOLE,))


@pytest.fixture
async def edge(backend: FakeBackend) -> AsyncIterator[EdgeServer]:
    limits = {"max_body_bytes": 100_000, "body_timeout_seconds": 0.2}
    async with running_edge(backend, server=limits) as edge:
        yield edge


@pytest.mark.wire("E7.unparsable_json", "E7.never_422")
@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b"null", b'"x"', b"\xff", b'{"a":1,}', b'{"n": NaN}']
)
@pytest.mark.parametrize("path", [CHAT, LENIENT_CHAT])
async def test_unparsable_json(edge: EdgeServer, body: bytes, path: str) -> None:
    """What is no JSON object: OpenAI's sentence, no param, no code."""
    response = await ask(edge.port, body, path=path)

    message = require_error(response, 400, _INVALID, None, None)
    assert message.startswith("We could not parse the JSON body of your request")
    assert response.headers["x-should-retry"] == "false"


@pytest.mark.wire("E7.never_422", "E16")
@pytest.mark.parametrize("path", [CHAT, LENIENT_CHAT])
async def test_bodies_that_are_too_large_or_too_slow(edge: EdgeServer, path: str) -> None:
    """413 and 408 in the envelope; the connection ends, since the rest is not waited for."""
    large = await ask(edge.port, {**HELLO, "padding": "x" * 100_000}, path=path)
    async with raw_client(edge.port) as client:
        client.send(request_head("POST", path, "1.1", {"Content-Length": 10}) + b"{")
        slow = await client.response()

    assert "100000 bytes" in require_error(large, 413, _INVALID, None, "request_too_large")
    assert "0.2 seconds" in require_error(slow, 408, _INVALID, None, "request_timeout")
    for response in (large, slow):
        assert response.headers["x-should-retry"] == "false"
        assert response.headers["connection"] == "close"


@pytest.mark.wire("E7.unknown_parameter")
@pytest.mark.parametrize("path", [CHAT, LENIENT_CHAT])
async def test_unknown_parameter(edge: EdgeServer, path: str) -> None:
    """What nobody knows is ignored under every profile, and named."""
    response = await ask(edge.port, {**HELLO, "wishful": 1, "also_unknown": None}, path=path)

    assert response.status == 200
    assert response.headers["x-headrace-ignored"] == "also_unknown, wishful"


# Fields, and the message, param and code that they get.
REFUSED: dict[str, tuple[dict[str, Any], str, str, str | None]] = {
    "function name": (
        {"tools": [TOOL], "tool_choice": "none"},
        (
            "Invalid 'tools[0].function.name': string does not match pattern. "
            "Expected a string that matches the pattern '^[a-zA-Z0-9_-]+$'."
        ),
        "tools[0].function.name",
        "invalid_value",
    ),
    "both limits": (
        {"max_tokens": 5, "max_completion_tokens": 5},
        "Setting 'max_tokens' and 'max_completion_tokens' at the same time is not supported.",
        "max_tokens",
        "invalid_parameter_combination",
    ),
    "stream_options without stream": (
        {"stream_options": {"include_usage": True}},
        "The 'stream_options' parameter is only allowed when 'stream' is enabled.",
        "stream_options",
        None,
    ),
    "top_logprobs without logprobs": (
        {"top_logprobs": 2},
        "The 'top_logprobs' parameter is only allowed when 'logprobs' is enabled.",
        "top_logprobs",
        None,
    ),
    "tool message": (
        {"messages": [USER, {"role": "tool", "content": "x", "tool_call_id": "c"}]},
        (
            "Invalid parameter: messages with role 'tool' must be a response to a preceeding "
            "message with 'tool_calls'."
        ),
        "messages.[1].role",
        None,
    ),
}


@pytest.mark.wire("E7.function_name", "E7.both_token_limits", "E7.tool_message", "E4")
@pytest.mark.wire("A5.token_limit_field", "E7.never_422")
@pytest.mark.parametrize("name", REFUSED)
async def test_refused_by_strict_profiles_alone(
    edge: EdgeServer, backend: FakeBackend, name: str
) -> None:
    """OpenAI's words, param and code; lenient profiles answer instead."""
    fields, words, param, code = REFUSED[name]

    strict = await ask(edge.port, {**HELLO, **fields})
    lenient = await ask(edge.port, {**HELLO, **fields}, path=LENIENT_CHAT)

    assert require_error(strict, 400, _INVALID, param, code) == words
    assert lenient.status == 200, lenient.body
    assert len(backend.generations) == 1


@pytest.mark.wire("E7.unsupported_value", "E12")
@pytest.mark.parametrize("path", [CHAT, LENIENT_CHAT])
@pytest.mark.parametrize("kind", ["image_url", "input_audio", "file"])
async def test_unsupported_value(edge: EdgeServer, path: str, kind: str) -> None:
    """Parts of a message that a text model cannot take are refused by name, everywhere."""
    parts = [{"type": "text", "text": "what is it"}, {"type": kind, kind: {}}]
    messages = [{"role": "user", "content": parts}]

    response = await ask(edge.port, {**HELLO, "messages": messages}, path=path)

    param = "messages[0].content[1].type"
    message = require_error(response, 400, _INVALID, param, "unsupported_value")
    assert message == (f"Unsupported value: '{param}' does not support '{kind}' with this model.")


@pytest.mark.wire("E7.unsupported_parameter")
async def test_unsupported_parameter(backend: FakeBackend) -> None:
    """A field that the model's workers do not honour is refused strictly, dropped leniently."""
    backend.models = (dataclasses.replace(WHOLE, honoured_fields=frozenset()),)
    async with running_edge(backend) as edge:
        strict = await ask(edge.port, {**HELLO, "temperature": 0.5})
        lenient = await ask(edge.port, {**HELLO, "temperature": 0.5}, path=LENIENT_CHAT)

    words = "Unsupported parameter: 'temperature' is not supported with this model."
    code = "unsupported_parameter"
    assert require_error(strict, 400, _INVALID, "temperature", code) == words
    assert lenient.headers["x-headrace-ignored"] == "temperature"


@pytest.mark.wire("E7.unknown_model", "E17")
@pytest.mark.parametrize("prefix", ["/v1", "/api/v1", ""])
@pytest.mark.parametrize("name", ["gpt-9", "no/such", "x" * 64])
async def test_unknown_model(edge: EdgeServer, prefix: str, name: str) -> None:
    """OpenAI's words with a null param, where it is asked and where it is looked up."""
    asked = await ask(edge.port, {**HELLO, "model": name}, path=f"{prefix}/chat/completions")
    async with raw_client(edge.port) as client:
        client.get(f"{prefix}/models/{name}")
        looked_up = await client.response()

    words = f"The model `{name}` does not exist or you do not have access to it."
    for response in (asked, looked_up):
        assert require_error(response, 404, _INVALID, None, "model_not_found") == words
        assert response.headers["x-should-retry"] == "false"


Asking = Callable[..., dict[str, Any]]


@pytest.fixture
def keys(tmp_path: Path) -> Asking:
    """Settings of a key file whose one key has these limits."""
    return lambda more="": {"file": write_keys(tmp_path / "keys.toml", entry(KEY, more=more))}


@pytest.mark.wire("E7.no_key", "E7.bad_key")
@pytest.mark.parametrize("path", [CHAT, LENIENT_CHAT, "/v1/models", "/nowhere"])
async def test_keys(keys: Asking, path: str) -> None:
    """401 on every path: without a key no code, with a wrong one its ends alone are shown."""
    async with running_edge(FakeBackend(), keys=keys()) as edge:
        none = await ask(edge.port, HELLO, path=path)
        wrong = await ask(
            edge.port, HELLO, path=path, headers={"Authorization": f"Bearer {OTHER_KEY}"}
        )

    assert require_error(none, 401, _INVALID, None, None).startswith(
        "You didn't provide an API key."
    )
    message = require_error(wrong, 401, _INVALID, None, "invalid_api_key")
    assert message.startswith(f"Incorrect API key provided: {OTHER_KEY[:5]}***{OTHER_KEY[-2:]}.")
    assert OTHER_KEY not in message
    for response in (none, wrong):
        assert response.headers["x-should-retry"] == "false"
        assert response.headers["www-authenticate"] == "Bearer"


@pytest.mark.wire("E7.forbidden_model")
async def test_forbidden_model(keys: Asking) -> None:
    """A model that a key does not admit looks like one that is not there."""
    bearer = {"Authorization": f"Bearer {KEY}"}
    async with running_edge(FakeBackend(), keys=keys('models = ["other"]')) as edge:
        response = await ask(edge.port, HELLO, headers=bearer)

    require_error(response, 404, _INVALID, None, "model_not_found")


@pytest.mark.wire("E7.rate_limit", "E16")
@pytest.mark.parametrize(
    ("limits", "kind", "is_final"),
    [
        ("requests_per_minute = 1", "requests", False),
        ("tokens_per_minute = 32", "tokens", False),
        ("tokens_per_minute = 5", "tokens", True),
    ],
)
async def test_rate_limit(keys: Asking, limits: str, kind: str, is_final: bool) -> None:
    """429 names what was reached, in headers how much is left, and when to come back, if ever."""
    body = {**HELLO, "max_tokens": 20}
    bearer = {"Authorization": f"Bearer {KEY}"}
    backend = FakeBackend(texts=["x"] * 20)
    async with running_edge(backend, keys=keys(limits)) as edge:
        answered = await ask(edge.port, body, headers=bearer)
        refused = await ask(edge.port, body, headers=bearer)

    assert answered.status == (429 if is_final else 200)
    require_error(refused, 429, kind, None, "rate_limit_exceeded")
    headers = refused.headers
    for name in ("limit", "remaining", "reset"):
        assert f"x-ratelimit-{name}-{kind}" in headers
    assert headers.get("x-should-retry") == ("false" if is_final else None)
    assert ("retry-after" in headers) == ("retry-after-ms" in headers) == (not is_final)


# What a client sees of what goes wrong behind the edge: status, type, code, and whether it is
# told to come back.
BEHIND: dict[Reason, tuple[int, str, str | None, bool]] = {
    pb.ERROR_REASON_CONTEXT_LENGTH_EXCEEDED: (400, _INVALID, "context_length_exceeded", False),
    pb.ERROR_REASON_OVERLOADED: (503, _BUSY, None, True),
    pb.ERROR_REASON_NO_WORKER_AVAILABLE: (503, _BUSY, "no_worker_available", True),
    pb.ERROR_REASON_ENGINE_FAILURE: (500, _SERVER, None, False),
    pb.ERROR_REASON_WORKER_LOST: (502, _SERVER, "worker_lost", True),
    pb.ERROR_REASON_DRAINING: (503, _BUSY, "draining", True),
    pb.ERROR_REASON_DEADLINE_EXCEEDED: (504, _SERVER, "deadline_exceeded", True),
    pb.ERROR_REASON_INCOMPATIBLE_PEER: (500, _SERVER, "incompatible_peer", False),
}


@pytest.mark.wire("E7.server", "E7.overloaded", "E7.context_overflow", "E8", "E9")
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("reason", BEHIND, ids=pb.ErrorReason.Name)
async def test_behind_the_edge(
    edge: EdgeServer, backend: FakeBackend, reason: Reason, stream: bool
) -> None:
    """Before the first byte a failure has its own status, streaming or not; 503 says when."""
    status, kind, code, is_retried = BEHIND[reason]
    backend.generate_error = ServiceError(reason, "It failed.", retry_after_seconds=3)

    response = await ask(edge.port, {**HELLO, "stream": stream})

    assert require_error(response, status, kind, None, code) == "It failed."
    assert response.headers.get("x-should-retry") == (None if is_retried else "false")
    assert response.headers.get("retry-after") == ("3" if status == 503 else None)


@pytest.mark.wire("E8", "E9")
@pytest.mark.parametrize("reason", ERROR_TABLE, ids=pb.ErrorReason.Name)
async def test_in_mid_stream(edge: EdgeServer, backend: FakeBackend, reason: Reason) -> None:
    """After the first byte it is one event with a truthy `error`, and the stream ends with it."""
    backend.texts = None
    async with raw_client(edge.port) as client:
        client.post({**HELLO, "stream": True})
        generation = await backend.next_generation()
        generation.start()
        generation.text("partly")
        assert (await client.head()).status == 200
        generation.fail(ServiceError(reason, "It failed.", "n"))
        events = parse_events(b"".join([chunk async for chunk in client.chunks()]))

    *chunks, last = events
    row = ERROR_TABLE[reason]
    assert last == {
        "error": {
            "message": "It failed.",
            "type": row.openai_type,
            "param": "n",
            "code": row.openai_code,
        }
    }
    assert {None} == {chunk["choices"][0]["finish_reason"] for chunk in chunks}
    assert "[DONE]" not in events

"""examples/seeds.toml: the requests that four vendors document, answered as they stand."""

import dataclasses
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from edge.http_server import EdgeServer
from edge.openai.fields import FIELDS
from edge.settings import EdgeSettings
from headrace.cli.tables import load_settings
from headrace.models.default import DEFAULT_MODEL
from headrace.runtime.settings import render_settings
from tests.support.edge_server import RawResponse, ask, raw_client
from tests.support.fake_backend import MODEL, FakeBackend

ROOT = Path(__file__).parents[3]
FILE = ROOT / "examples" / "seeds.toml"
SYSTEM = {"role": "system", "content": "You are a helpful assistant."}
CALL = {
    "id": "<string>",
    "type": "function",
    "function": {"name": "<string>", "arguments": "<string>"},
}
FUNCTION = {"name": "<string>", "parameters": {}, "description": "<string>", "strict": True}
PINSTRIPES: dict[str, Any] = {
    "model": "ps/qwen3.6-35b-a3b",
    "messages": [SYSTEM, {"role": "user", "content": "What is prefix caching?"}],
    "temperature": 0.7,
}
POLARGRID: dict[str, Any] = {
    "model": "llama-3.1-8b",
    "messages": [SYSTEM, {"role": "user", "content": "What is the capital of France?"}],
    "max_tokens": 100,
    "temperature": 0.7,
}
OPENPIPE: dict[str, Any] = {
    "messages": [{"role": "system", "content": "<string>", "name": "<string>"}],
    "model": "<string>",
    "audio": {"format": "wav", "voice": "alloy"},
    "function_call": "none",
    "functions": [FUNCTION],
    "tool_choice": "none",
    "tools": [{"function": FUNCTION, "type": "function"}],
    "response_format": {"type": "text"},
    "logprobs": True,
    "stream_options": {"include_usage": True},
    "store": True,
    "metadata": {},
    "stream": False,
    "stop": "<string>",
    **dict.fromkeys(("n", "max_tokens", "max_completion_tokens", "top_logprobs"), 123),
    **dict.fromkeys(("temperature", "top_p", "presence_penalty", "frequency_penalty"), 123),
}
PREMAI: dict[str, Any] = {
    "messages": [
        {
            "role": "system",
            "content": "<string>",
            "name": "<string>",
            "tool_calls": [CALL],
            "tool_call_id": "<string>",
        }
    ],
    "model": "<string>",
}


@pytest.fixture
def settings(monkeypatch: pytest.MonkeyPatch) -> EdgeSettings:
    # The key file is named from the repository's root.
    monkeypatch.chdir(ROOT)
    return load_settings("edge", EdgeSettings, FILE)


@pytest.fixture
def backend() -> FakeBackend:
    honoured = frozenset(spec.honoured_as for spec in FIELDS if spec.honoured_as)
    model = dataclasses.replace(
        MODEL,
        name=DEFAULT_MODEL.name,
        honoured_fields=honoured,
        max_outputs=128,
        max_logprobs=20,
    )
    return FakeBackend(models=(model,))


@pytest.fixture
async def edge(settings: EdgeSettings, backend: FakeBackend) -> AsyncIterator[EdgeServer]:
    server = settings.server.model_copy(update={"port": 0})
    edge = EdgeServer(settings.model_copy(update={"server": server}), backend)
    await edge.start()
    try:
        yield edge
    finally:
        await edge.close()


async def post(edge: EdgeServer, body: object, host: str, key: str, path: str) -> RawResponse:
    headers = {"Host": host, "Authorization": f"Bearer {key}"}
    return await ask(edge.port, body, path=path, headers=headers)


def test_settings_read_back(settings: EdgeSettings, tmp_path: Path) -> None:
    """What --print-config shows of names with dots, slashes and brackets reads back."""
    file = tmp_path / "again.toml"
    file.write_text(render_settings("edge", settings))

    assert settings == load_settings("edge", EdgeSettings, file)


async def test_pinstripes(edge: EdgeServer, backend: FakeBackend) -> None:
    """No limit is asked for and the operator's is told; cached tokens stand at usage's top."""
    response = await post(
        edge, PINSTRIPES, "api.pinstripes.io", "sk-ps-...", "/v1/chat/completions"
    )

    answer = response.json()
    assert ("ps/qwen3.6-35b-a3b", 0) == (answer["model"], answer["usage"]["cached_tokens"])
    assert "max_tokens=256" == response.headers["x-headrace-clamped"]
    assert 256 == backend.generations[0].options.max_tokens


async def test_polargrid(edge: EdgeServer, backend: FakeBackend) -> None:
    """Its limit is honoured, its own top_p taken, on a port of its own."""
    host = "api.ymq-01.edge.polargrid.ai:55111"
    response = await post(edge, POLARGRID, host, "pg_your_api_key", "/v1/chat/completions")

    assert (200, "llama-3.1-8b") == (response.status, response.json()["model"])
    assert {"x-headrace-clamped", "x-headrace-ignored"}.isdisjoint(response.headers)
    options = backend.generations[0].options
    assert (100, 0.9) == (options.max_tokens, round(options.sampling.top_p, 6))


async def test_openpipe(edge: EdgeServer, backend: FakeBackend) -> None:
    """Everything out of range is brought into it, as much as a laptop can serve, and told."""
    response = await post(edge, OPENPIPE, "api.openpipe.ai", "<token>", "/api/v1/chat/completions")

    told = response.headers["x-headrace-clamped"]
    assert 200 == response.status
    assert told == (
        "frequency_penalty=2, n=25, presence_penalty=2, temperature=2, top_logprobs=20, top_p=1"
    )
    assert "audio, store, stream_options" == response.headers["x-headrace-ignored"]
    answer = response.json()
    assert list(range(25)) == [choice["index"] for choice in answer["choices"]]
    usage = answer["usage"]
    assert usage["prompt_cache_hit_tokens"] + usage["prompt_cache_miss_tokens"] == 10
    options = backend.generations[0].options
    assert (25, 123, 20) == (options.n, options.max_tokens, options.logprobs)


async def test_premai(edge: EdgeServer) -> None:
    """A system message with a tool's keys is taken; the answer names the model behind the alias."""
    response = await post(edge, PREMAI, "studio.premai.io", "<token>", "/api/v1/chat/completions")

    assert (200, DEFAULT_MODEL.name) == (response.status, response.json()["model"])


async def test_without_a_host(edge: EdgeServer) -> None:
    """The two documents that share key, path and model are both served where no Host tells them."""
    for body in (OPENPIPE, PREMAI):
        response = await post(edge, body, "127.0.0.1", "<token>", "/chat/completions")
        assert (200, "<string>") == (response.status, response.json()["model"])


async def test_a_wrong_key(edge: EdgeServer) -> None:
    """The documents' keys are keys: another is refused."""
    async with raw_client(edge.port) as client:
        client.post(PREMAI, headers={"Authorization": "Bearer <tokens>"})
        response = await client.response()

    assert (401, "invalid_api_key") == (response.status, response.error["code"])

"""The profiles over HTTP: which request gets which, what its answer holds, and what is told."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
import structlog

from edge.http_server import EdgeServer
from tests.support.edge_server import (
    HELLO,
    RawResponse,
    ask,
    parse_events,
    raw_client,
    running_edge,
    wait_until,
)
from tests.support.fake_backend import MODEL, FakeBackend

V1, API_V1, BARE = "/v1/chat/completions", "/api/v1/chat/completions", "/chat/completions"
HOSTS = {
    "api.pinstripes.io": "pinstripes",
    "api.ymq-01.edge.polargrid.ai": "polargrid",
    "api.openpipe.ai": "openpipe",
    "studio.premai.io": "premai",
}
ALIASES = {
    "llama-3.1-8b": {"model": MODEL.name, "profile": "polargrid"},
    "short": {"model": MODEL.name, "max_tokens": 5},
    "*": {"model": MODEL.name},
}
OWN = {"mine": {"base": "lenient", "default_max_tokens": 3}}
HOST_OF = {name: host for host, name in HOSTS.items()}
DETAILS = {
    "reasoning_tokens": 0,
    "audio_tokens": 0,
    "accepted_prediction_tokens": 0,
    "rejected_prediction_tokens": 0,
}
COMMON = {
    "prompt_tokens": 10,
    "completion_tokens": 2,
    "total_tokens": 12,
    "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
}
CACHED = {"cached_tokens": 0}
OPENPIPES = {"prompt_cache_hit_tokens": 0, "prompt_cache_miss_tokens": 10, "criteria": {}}
PLAIN = COMMON | {"completion_tokens_details": DETAILS}
WITH_TEXT = COMMON | {"completion_tokens_details": DETAILS | {"text_tokens": 2}}
USAGE: dict[str, dict[str, Any]] = {
    "openai": PLAIN | CACHED,
    "pinstripes": PLAIN | CACHED,
    "polargrid": PLAIN,
    "openpipe": WITH_TEXT | OPENPIPES,
    "premai": PLAIN,
    "lenient": WITH_TEXT | OPENPIPES | CACHED,
}


@pytest.fixture
def backend() -> FakeBackend:
    return FakeBackend()


@pytest.fixture
async def edge(backend: FakeBackend) -> AsyncIterator[EdgeServer]:
    own = {"hosts": {**HOSTS, "own.example": "mine"}, "aliases": ALIASES, "profiles": OWN}
    async with running_edge(backend, **own) as edge:
        yield edge


def under(profile: str) -> dict[str, Any]:
    """Path and Host by which a request gets a shipped profile."""
    if profile in HOST_OF:
        return {"path": V1, "headers": {"Host": HOST_OF[profile]}}
    return {"path": V1 if profile == "openai" else API_V1}


async def ask_as(edge: EdgeServer, profile: str, **fields: Any) -> RawResponse:
    return await ask(edge.port, {**HELLO, **fields}, **under(profile))


@pytest.mark.wire("A5.base_path", "A5.strict_and_lenient_paths")
@pytest.mark.parametrize("path", [V1, API_V1, BARE])
async def test_mounts(edge: EdgeServer, path: str) -> None:
    """The endpoint answers under every path of the vendors; the path decides how strictly."""
    assert 200 == (await ask(edge.port, HELLO, path=path)).status

    hot = await ask(edge.port, {**HELLO, "temperature": 123}, path=path)

    assert (400 if path == V1 else 200) == hot.status
    assert ("temperature=2" == hot.headers.get("x-headrace-clamped")) == (path != V1)


@pytest.mark.parametrize("prefix", ["/v1", "/api/v1", ""])
async def test_models_everywhere(edge: EdgeServer, prefix: str) -> None:
    """The models list and a single model answer under every path; aliases are models too."""
    async with raw_client(edge.port) as client:
        client.get(f"{prefix}/models")
        listed = (await client.response()).json()["data"]
        client.get(f"{prefix}/models/ps%2Fpaced-1.0")
        one = (await client.response()).json()
        client.get(f"{prefix}/models", "DELETE")
        refused = await client.response()

    assert ["llama-3.1-8b", MODEL.name, "short"] == [model["id"] for model in listed]
    assert {"id": MODEL.name, "object": "model", "created": MODEL.created} == {
        key: one[key] for key in ("id", "object", "created")
    }
    assert (405, "method_not_supported") == (refused.status, refused.error["code"])


@pytest.mark.parametrize("path", ["/api/v1/chat/completion", "/api/v1", "/chat", "/api/chat"])
async def test_unknown_paths(edge: EdgeServer, path: str) -> None:
    """What is no path of anybody is an unknown URL, in the envelope."""
    response = await ask(edge.port, HELLO, path=path)

    assert (404, "unknown_url") == (response.status, response.error["code"])


@pytest.mark.wire("A5.cached_tokens", "E4")
@pytest.mark.parametrize("profile", USAGE)
async def test_usage(edge: EdgeServer, profile: str) -> None:
    """Each profile's usage has OpenAI's fields and those that its clients read, no others."""
    assert USAGE[profile] == (await ask_as(edge, profile)).json()["usage"]


@pytest.mark.parametrize("profile", USAGE)
async def test_streamed_usage(edge: EdgeServer, profile: str) -> None:
    """The same in a stream that asks for it: once, without choices; every other chunk has null."""
    response = await ask_as(edge, profile, stream=True, stream_options={"include_usage": True})

    *chunks, last, done = parse_events(response.body)
    assert ([], USAGE[profile], "[DONE]") == (last["choices"], last["usage"], done)
    assert {None} == {chunk["usage"] for chunk in chunks}


@pytest.mark.parametrize("profile", USAGE)
async def test_stream_without_usage(edge: EdgeServer, profile: str) -> None:
    """Unasked, no chunk has usage; the role comes once, with empty content, before any text."""
    *chunks, done = parse_events((await ask_as(edge, profile, stream=True)).body)

    assert "[DONE]" == done
    assert all("usage" not in chunk for chunk in chunks)
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks]
    assert {"role": "assistant", "content": "", "refusal": None} == deltas[0]
    assert "Hello world" == "".join(delta["content"] for delta in deltas[1:-1])
    assert [{"content"}] * (len(deltas) - 2) == [delta.keys() for delta in deltas[1:-1]]
    assert {} == deltas[-1]
    reasons = [chunk["choices"][0]["finish_reason"] for chunk in chunks]
    assert [*[None] * (len(chunks) - 1), "stop"] == reasons
    for chunk in chunks:
        assert {"id", "object", "created", "model", "choices"} <= chunk.keys()


@pytest.mark.wire("A3.response", "A5.message_extras")
@pytest.mark.parametrize("profile", USAGE)
async def test_choice(edge: EdgeServer, profile: str) -> None:
    """A choice has OpenAI's fields, nulls included, and the vendor's own."""
    (choice,) = (await ask_as(edge, profile)).json()["choices"]

    message = {"role": "assistant", "content": "Hello world", "refusal": None, "annotations": []}
    expected = {"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}
    if profile in ("openpipe", "lenient"):
        message["reasoning_content"] = None
        expected |= {"content_filter_results": {}, "criteria_results": {}}
    assert expected == choice


@pytest.mark.wire("A5.model_in_response")
@pytest.mark.parametrize("profile", USAGE)
@pytest.mark.parametrize("stream", [False, True])
async def test_model_echo(edge: EdgeServer, profile: str, stream: bool) -> None:
    """Answers name the model as it was asked for; one vendor's name the one behind an alias."""
    response = await ask_as(edge, profile, model="<string>", stream=stream)

    answers = parse_events(response.body)[:-1] if stream else [response.json()]
    expected = MODEL.name if profile == "premai" else "<string>"
    assert {expected} == {answer["model"] for answer in answers}


async def test_host_has_a_port(edge: EdgeServer, backend: FakeBackend) -> None:
    """A Host is known on any port."""
    host = {"Host": "api.ymq-01.edge.polargrid.ai:55111"}

    await ask(edge.port, HELLO, headers=host)

    options = backend.generations[0].options
    assert 150 == options.max_tokens
    assert (0.7, 0.9) == (
        round(options.sampling.temperature, 6),
        round(options.sampling.top_p, 6),
    )


async def test_alias_has_a_profile(edge: EdgeServer, backend: FakeBackend) -> None:
    """An alias's profile holds where no Host has one; the model behind it is asked."""
    await ask(edge.port, {**HELLO, "model": "llama-3.1-8b"}, path=API_V1)

    generation = backend.generations[0]
    assert (150, MODEL.name) == (generation.options.max_tokens, generation.prompt.model)


async def test_own_profile(edge: EdgeServer, backend: FakeBackend) -> None:
    """An operator's profile is like any other."""
    response = await ask(edge.port, {**HELLO, "temperature": 9}, headers={"Host": "own.example"})

    assert "temperature=2" == response.headers["x-headrace-clamped"]
    assert 3 == backend.generations[0].options.max_tokens


@pytest.mark.parametrize("stream", [False, True])
async def test_told(edge: EdgeServer, stream: bool) -> None:
    """What was taken otherwise than asked for stands in the headers, of streams as well."""
    fields = {
        "temperature": 123,
        "n": 123,
        "presence_penalty": 1,
        "store": True,
        "strange, field": 1,
        "audio": {"format": "wav", "voice": "alloy"},
    }

    response = await ask_as(edge, "openpipe", model="short", stream=stream, **fields)

    assert "max_tokens=5, n=4, temperature=2" == response.headers["x-headrace-clamped"]
    assert (
        "audio, presence_penalty, store, strange%2C%20field"
        == (response.headers["x-headrace-ignored"])
    )


@pytest.mark.parametrize("fields", [{}, {"stream": True}, {"n": 0}])
async def test_headers_of_every_answer(edge: EdgeServer, fields: dict[str, Any]) -> None:
    """Answers, streams and refusals say how long they took to begin, and OpenAI's version."""
    headers = (await ask_as(edge, "openai", **fields)).headers

    assert 0 <= int(headers["openai-processing-ms"]) < 60_000
    assert "2020-10-01" == headers["openai-version"]
    assert {"access-control-allow-origin", "set-cookie"}.isdisjoint(headers)


async def test_options_of_the_worker(edge: EdgeServer, backend: FakeBackend) -> None:
    """What was taken is what is asked of the worker."""
    await ask_as(edge, "openpipe", temperature=123, n=3, seed=5, max_completion_tokens=9)

    options = backend.generations[0].options
    assert (3, 9, 2.0, 5) == (
        options.n,
        options.max_tokens,
        options.sampling.temperature,
        options.sampling.seed,
    )


async def test_log_line(edge: EdgeServer) -> None:
    """The log line has the profile, the labels and the counts, and nothing of the content."""
    labels = {
        "user": "u" * 200,
        "safety_identifier": "s-1",
        "store": True,
        "metadata": {"secret": "of mine"},
        "temperature": 5,
    }
    with structlog.testing.capture_logs() as logs:
        await ask_as(edge, "openpipe", **labels)
        await wait_until(lambda: bool(logs))

    (line,) = [line for line in logs if line["event"] == "request_served"]
    expected = {
        "profile": "openpipe",
        "user": "u" * 128,
        "safety_identifier": "s-1",
        "store": True,
        "num_metadata": 1,
        "ignored": ["store"],
        "clamped": {"temperature": 2.0},
        "prompt_tokens": 10,
        "completion_tokens": 2,
    }
    assert expected == {key: line[key] for key in expected}
    assert "of mine" not in str(line)
    assert "hello" not in str(line)


async def test_usage_of_a_client_that_leaves(edge: EdgeServer, backend: FakeBackend) -> None:
    """What was generated for a client that left is counted in the log line."""
    backend.texts = None
    with structlog.testing.capture_logs() as logs:
        async with raw_client(edge.port) as client:
            client.post({**HELLO, "stream": True})
            generation = await backend.next_generation()
            generation.start(cached=4)
            generation.text("one")
            await client.head()
        await wait_until(lambda: bool(logs))

    (line,) = [line for line in logs if line["event"] == "request_served"]
    assert (499, 10, 4, 1) == (
        line["status"],
        line["prompt_tokens"],
        line["cached_prompt_tokens"],
        line["completion_tokens"],
    )

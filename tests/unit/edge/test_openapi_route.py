"""/openapi.json of a running edge, and its answers against the document's schemas."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bench.fuzz.schema_book import SchemaBook
from edge.app import PREFIXES
from edge.http_server import EdgeServer
from edge.openai.openapi import schema_name
from edge.openai.openapi_headers import HEADERS, LIMITED, TOLD
from edge.profile_data import shipped_profiles
from edge.replies import REQUEST_ID_HEADER
from edge.settings import EdgeSettings, ServerSettings
from edge.told_headers import CLAMPED_HEADER, IGNORED_HEADER
from headrace.client.answer_events import TokenLogprob
from headrace.common.v1 import errors_pb2
from headrace.rpc.errors import ServiceError
from tests.support.edge_server import (
    CHAT,
    HELLO,
    RawResponse,
    ask,
    parse_events,
    raw_client,
    running_edge,
)
from tests.support.fake_backend import MODEL, FakeBackend
from tests.support.keys import KEY, entry, write_keys

PROFILES = sorted(shipped_profiles())
LOUD = replace(MODEL, honoured_fields=MODEL.honoured_fields | {"logprobs"}, max_logprobs=5)
TOKEN = TokenLogprob(b"Hi", -0.5, ((b"Hi", -0.5), (b"\xff", float("-inf"))))


@asynccontextmanager
async def _edge(backend: FakeBackend) -> AsyncIterator[EdgeServer]:
    """An edge on which every profile has a Host."""
    hosts = {f"{name}.test": name for name in PROFILES}
    server = EdgeServer(EdgeSettings(server=ServerSettings(port=0), hosts=hosts), backend)
    await server.start()
    try:
        yield server
    finally:
        await server.close()


async def _get(port: int, path: str, method: str = "GET", **headers: str) -> RawResponse:
    async with raw_client(port) as client:
        client.get(path, method, headers)
        if method == "HEAD":
            return await client.head()
        response = await client.head()
        length = int(response.headers.get("content-length", "0"))
        response.body = await client.reader.readexactly(length)
        return response


async def _book(port: int) -> SchemaBook:
    return SchemaBook((await _get(port, "/openapi.json")).json())


async def test_document_without_services() -> None:
    """The document is there before any worker is, and is not sent again to whoever has it."""
    async with running_edge(FakeBackend(models=(), is_ready=False)) as edge:
        first = await _get(edge.port, "/openapi.json")
        assert first.status == 200
        assert first.headers["content-type"].startswith("application/json")
        assert set(first.json()["paths"]) == {
            "/openapi.json",
            "/health",
            "/ready",
            "/metrics",
            *(f"{prefix}/chat/completions" for prefix in PREFIXES),
            *(f"{prefix}/models" for prefix in PREFIXES),
            *(f"{prefix}/models/{{name}}" for prefix in PREFIXES),
        }
        tag = first.headers["etag"]
        again = await _get(edge.port, "/openapi.json", **{"If-None-Match": tag})
        assert (again.status, again.body, again.headers["etag"]) == (304, b"", tag)
        assert (await _get(edge.port, "/openapi.json", **{"If-None-Match": '"x"'})).status == 200
        assert (await _get(edge.port, "/openapi.json", "HEAD")).status == 200


async def test_mounts_have_their_profiles() -> None:
    """Each path is described by the profile that it gives."""
    async with running_edge(FakeBackend()) as edge:
        paths = (await _get(edge.port, "/openapi.json")).json()["paths"]
    profiles = {
        prefix: paths[f"{prefix}/chat/completions"]["post"]["x-headrace-profile"]
        for prefix in PREFIXES
    }
    assert profiles == {"/v1": "openai", "/api/v1": "lenient", "": "lenient"}


async def test_keys_are_described(tmp_path: Path) -> None:
    """Where keys are configured the document needs one, and says so."""
    more = "requests_per_minute = 5\ntokens_per_minute = 1000"
    keys = {"file": write_keys(tmp_path / "keys.toml", entry(KEY, more=more))}
    async with running_edge(FakeBackend(), keys=keys) as edge:
        refused = await _get(edge.port, "/openapi.json")
        assert refused.status == 401
        response = await _get(edge.port, "/openapi.json", Authorization=f"Bearer {KEY}")
        document = response.json()
        assert SchemaBook(document).problem("ErrorEnvelope", refused.json()) is None
        assert document["components"]["securitySchemes"] == {
            "key": {"type": "http", "scheme": "bearer"}
        }
        answer = await ask(edge.port, HELLO, headers={"Authorization": f"Bearer {KEY}"})
        described = document["paths"][CHAT]["post"]["responses"]["200"]["headers"]
        limits = {name for name in answer.headers if name.startswith("x-ratelimit")}
        assert limits == set(LIMITED) <= set(described)


def test_headers_are_the_codes_own() -> None:
    """The names of headers are those that the edge sends."""
    assert (IGNORED_HEADER, CLAMPED_HEADER) == TOLD
    assert REQUEST_ID_HEADER in HEADERS


@pytest.mark.parametrize("profile", PROFILES)
async def test_answers(profile: str) -> None:
    """Whole answers and every event of streamed ones are as their profile's schemas say."""
    async with _edge(FakeBackend()) as edge:
        book = await _book(edge.port)
        headers = {"Host": f"{profile}.test"}
        whole = await ask(edge.port, {**HELLO, "n": 2}, headers=headers)
        assert whole.status == 200
        assert book.problem(schema_name("ChatCompletion", profile), whole.json()) is None
        for options in ({}, {"stream_options": {"include_usage": True}}):
            document = {**HELLO, "n": 2, "stream": True, **options}
            events = parse_events((await ask(edge.port, document, headers=headers)).body)
            assert events.pop() == "[DONE]"
            assert len(events) >= 6
            for event in events:
                assert book.problem(schema_name("ChatCompletionChunk", profile), event) is None


@pytest.mark.parametrize("stream", [False, True])
async def test_log_probabilities(stream: bool) -> None:
    """Log probabilities are as described, in whole answers and in chunks."""
    backend = FakeBackend(texts=None, models=(LOUD,))
    async with _edge(backend) as edge:
        book = await _book(edge.port)
        document = {**HELLO, "logprobs": True, "top_logprobs": 2, "stream": stream}
        asked = asyncio.create_task(ask(edge.port, document))
        generation = await backend.next_generation()
        generation.start()
        generation.tokens(TOKEN)
        generation.finish()
        generation.done()
        answer = await asked
    if not stream:
        assert answer.json()["choices"][0]["logprobs"]["content"]
        assert book.problem("ChatCompletion.openai", answer.json()) is None
        return
    events = parse_events(answer.body)[:-1]
    assert any(choice["logprobs"] for event in events for choice in event["choices"])
    for event in events:
        assert book.problem("ChatCompletionChunk.openai", event) is None


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v1/models", 200),
        ("GET", f"/models/{MODEL.name}", 200),
        ("GET", "/health", 200),
        ("GET", "/ready", 200),
        ("GET", "/api/v1/models/none", 404),
        ("GET", "/nowhere", 404),
        ("DELETE", "/v1/models", 405),
    ],
)
async def test_other_answers(method: str, path: str, status: int) -> None:
    """Models, probes and refusals are as the document's responses say."""
    async with running_edge(FakeBackend()) as edge:
        book = await _book(edge.port)
        document = (await _get(edge.port, "/openapi.json")).json()
        answer = await _get(edge.port, path, method)
    assert answer.status == status
    if status >= 400:
        assert book.problem("ErrorEnvelope", answer.json()) is None
        return
    place = path.replace(MODEL.name, "{name}")
    assert place in document["paths"]
    escaped = place.replace("/", "~1")
    pointer = f"/paths/{escaped}/get/responses/200/content/application~1json/schema"
    assert book.problem_at(pointer, answer.json()) is None


async def test_failure_of_a_stream() -> None:
    """The event that ends a stream that failed is the envelope."""
    backend = FakeBackend(texts=None)
    async with running_edge(backend) as edge:
        book = await _book(edge.port)
        asked = asyncio.create_task(ask(edge.port, {**HELLO, "stream": True}))
        generation = await backend.next_generation()
        generation.start()
        generation.text("x")
        generation.fail(ServiceError(errors_pb2.ERROR_REASON_WORKER_LOST, "It is gone."))
        events = _events_of_failed(await asked)
    assert book.problem("ErrorEnvelope", events[-1]) is None


def _events_of_failed(answer: RawResponse) -> list[Any]:
    blocks = answer.body.decode().strip().split("\n\n")
    lines = [block.removeprefix("data: ") for block in blocks]
    return [json.loads(line) for line in lines if line != "[DONE]"]


def test_schema_book_finds_faults() -> None:
    """A value that is not as its schema says is told with its place."""
    document = {"components": {"schemas": {"A": {"properties": {"x": {"type": "integer"}}}}}}
    book = SchemaBook(document)
    assert book.problem("A", {"x": 1}) is None
    assert book.problem("A", {"x": "1"}) == "$.x: '1' is not of type 'integer'"

"""HTTP as it is on the wire: the envelope on every path, bodies, and odd clients."""

import json
import zlib
from collections.abc import AsyncIterator

import pytest
import structlog

from edge.http_server import EdgeServer
from headrace.common.v1 import errors_pb2
from headrace.rpc.errors import ServiceError
from tests.support.edge_server import (
    CHAT,
    HELLO,
    RawClient,
    ask,
    parse_events,
    raw_client,
    request_head,
    running_edge,
)
from tests.support.fake_backend import MODEL, FakeBackend


@pytest.fixture
def backend() -> FakeBackend:
    return FakeBackend()


@pytest.fixture
async def edge(backend: FakeBackend) -> AsyncIterator[EdgeServer]:
    limits = {"max_body_bytes": 4096, "body_timeout_seconds": 0.2}
    async with running_edge(backend, server=limits) as edge:
        yield edge


@pytest.fixture
async def client(edge: EdgeServer) -> AsyncIterator[RawClient]:
    async with raw_client(edge.port) as client:
        yield client


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("POST", "/v1/chat/completion", 404, "unknown_url"),
        ("GET", "/", 404, "unknown_url"),
        ("DELETE", "/v1/chat/completions/x", 404, "unknown_url"),
        ("GET", "/v1/models/", 404, "unknown_url"),
        ("GET", CHAT, 405, "method_not_supported"),
        ("PUT", "/v1/models", 405, "method_not_supported"),
        ("POST", "/v1/models/a/b", 405, "method_not_supported"),
        ("OPTIONS", "/health", 405, "method_not_supported"),
        ("PATCH", "/metrics", 405, "method_not_supported"),
        ("GET", "/v1/models/no/such", 404, "model_not_found"),
    ],
)
async def test_unknown(client: RawClient, method: str, path: str, status: int, code: str) -> None:
    """Unknown paths, methods and models come in the envelope, each with its code."""
    client.get(path, method)

    response = await client.response()

    assert (status, code) == (response.status, response.error["code"])
    assert response.headers["x-should-retry"] == "false"
    assert ("allow" in response.headers) == (status == 405)


@pytest.mark.parametrize("target", ["CONNECT x:443", "GET /v1/models/a%0ab", "GET /%0d%0a%00"])
async def test_what_no_route_matches(client: RawClient, target: str) -> None:
    """A request without a path, or with line breaks in it, is an unknown URL and no crash."""
    with structlog.testing.capture_logs() as logs:
        client.send(f"{target} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        response = await client.response()

    assert (404, "unknown_url") == (response.status, response.error["code"])
    assert [] == [line for line in logs if line["log_level"] == "error"]


async def test_long_name_is_not_echoed_whole(edge: EdgeServer) -> None:
    """A model's name is quoted by its beginning."""
    response = await ask(edge.port, {**HELLO, "model": "m" * 3000})

    assert (404, "model_not_found") == (response.status, response.error["code"])
    assert f"`{'m' * 256}…`" in response.error["message"]


@pytest.mark.wire("E17")
@pytest.mark.parametrize("path", ["/v1/models/ps/paced-1.0", "/v1/models/ps%2Fpaced-1.0"])
async def test_model_with_slash(client: RawClient, path: str) -> None:
    """A model's id may hold a slash, plain or encoded."""
    client.get(path)

    assert (await client.response()).json()["id"] == MODEL.name


async def test_head(client: RawClient) -> None:
    """What can be got can be asked for without its body."""
    client.get("/health", "HEAD")

    assert (await client.head()).status == 200


@pytest.mark.parametrize(
    "garbage",
    [
        b"NOT HTTP AT ALL\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET / HTTP/1.1\r\nno colon here\r\n\r\n",
        b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nX: " + b"a" * 20_000 + b"\r\n\r\n",
    ],
    ids=lambda data: repr(data[:20]),
)
async def test_no_http(client: RawClient, garbage: bytes) -> None:
    """What is no HTTP is answered with 400 in the envelope, not quoted, and the connection ends."""
    client.send(garbage)

    response = await client.response()

    assert response.status == 400
    assert response.error["type"] == "invalid_request_error"
    assert response.error["message"].startswith("The HTTP request could not be parsed")
    assert len(response.error["message"]) < 150
    assert await client.reader.read() == b""


@pytest.mark.wire("E16")
async def test_request_ids(edge: EdgeServer, backend: FakeBackend) -> None:
    """Each response has a new x-request-id, never the client's and never the completion's."""
    given = {"x-request-id": "mine"}
    first = await ask(edge.port, HELLO, headers=given)
    second = await ask(edge.port, {**HELLO, "stream": True}, headers=given)

    ids = [response.headers["x-request-id"] for response in (first, second)]
    assert len({*ids, "mine"}) == 3
    assert first.json()["id"] not in ids
    assert ids == [generation.options.request_id for generation in backend.generations]


@pytest.mark.parametrize("announced", [True, False])
async def test_body_too_large(edge: EdgeServer, client: RawClient, announced: bool) -> None:
    """A body above the bound is refused by its announced length, or while it comes."""
    if announced:
        client.send(request_head("POST", CHAT, "1.1", {"Content-Length": 10**8}))
    else:
        client.send(request_head("POST", CHAT, "1.1", {"Transfer-Encoding": "chunked"}))
        client.send((b"800\r\n" + b"x" * 2048 + b"\r\n") * 3)

    response = await client.response()

    assert (413, "request_too_large") == (response.status, response.error["code"])
    assert response.headers["connection"] == "close"
    assert (await ask(edge.port, HELLO)).status == 200


async def test_compressed_body(edge: EdgeServer) -> None:
    """A compressed body is taken, and bounded by its size after decompression."""
    headers = {"Content-Encoding": "deflate"}
    small = zlib.compress(json.dumps(HELLO).encode())
    bomb = zlib.compress(b" " * 10_000_000)[:4000]

    assert (await ask(edge.port, small, headers=headers)).status == 200
    assert (await ask(edge.port, bomb, headers=headers)).status == 413


async def test_garbled_compression(edge: EdgeServer, client: RawClient) -> None:
    """A body that is not what its encoding says is refused by that name, and is no crash."""
    with structlog.testing.capture_logs() as logs:
        client.post(b"not gzip at all", headers={"Content-Encoding": "gzip"})
        broken = await client.response()
        client.post(HELLO)
        assert (await client.response()).status == 200

    assert broken.status == 400
    assert broken.error["message"] == (
        "The request's body could not be read: it is no whole 'gzip'."
    )
    assert [] == [line for line in logs if line["log_level"] == "error"]


async def test_broken_chunked_body(client: RawClient) -> None:
    """A body that breaks its framing is refused in the envelope."""
    client.send(request_head("POST", CHAT, "1.1", {"Transfer-Encoding": "chunked"}))
    client.send(b"5\r\nhello\r\nzz\r\n")

    response = await client.response()

    assert response.status == 400
    assert response.error["type"] == "invalid_request_error"


async def test_stalled_body(edge: EdgeServer, client: RawClient, backend: FakeBackend) -> None:
    """Half a body that never goes on is answered with 408 and disturbs nobody."""
    client.send(request_head("POST", CHAT, "1.1", {"Content-Length": 100}) + b'{"model"')
    other = await ask(edge.port, HELLO)

    response = await client.response()

    assert other.status == 200
    assert (408, "request_timeout") == (response.status, response.error["code"])
    assert response.headers["x-should-retry"] == "false"
    assert len(backend.conversations) == 1


async def test_expect_continue(client: RawClient) -> None:
    """A client that asks before it sends is told to go on, and served."""
    body = json.dumps(HELLO).encode()
    headers = {"Content-Length": len(body), "Expect": "100-continue"}
    client.send(request_head("POST", CHAT, "1.1", headers))
    assert (await client.head()).status == 100

    client.send(body)

    assert (await client.response()).json()["object"] == "chat.completion"


async def test_expect_is_refused(client: RawClient) -> None:
    """A client that asks before it sends too much is refused at once."""
    headers = {"Content-Length": 10**8, "Expect": "100-continue"}
    client.send(request_head("POST", CHAT, "1.1", headers))

    response = await client.response()

    assert (413, "request_too_large") == (response.status, response.error["code"])


async def test_unknown_expectation(client: RawClient) -> None:
    """An expectation that nobody knows is not in the way."""
    client.post(HELLO, headers={"Expect": "the-unexpected"})

    assert (await client.response()).status == 200


async def test_pipelined_requests(client: RawClient) -> None:
    """Requests sent ahead on one connection are answered in order, streams among them."""
    client.post(HELLO)
    client.post({**HELLO, "stream": True})
    client.post(b"{")
    client.get("/health")
    client.post({**HELLO, "stream": True})

    first, second, third, fourth, fifth = [await client.response() for _ in range(5)]

    assert [200, 200, 400, 200, 200] == [r.status for r in (first, second, third, fourth, fifth)]
    assert first.json()["object"] == "chat.completion"
    assert parse_events(second.body)[-1] == "[DONE]"
    assert third.error["type"] == "invalid_request_error"
    assert fourth.json() == {"status": "ok"}
    assert parse_events(fifth.body)[-1] == "[DONE]"


async def test_unforeseen_failure(edge: EdgeServer, backend: FakeBackend) -> None:
    """A bug is a 500 in the envelope that says nothing of its cause and is not retried."""
    backend.render_error = RuntimeError("secret detail")

    response = await ask(edge.port, HELLO)

    assert (500, None) == (response.status, response.error["code"])
    assert response.headers["x-should-retry"] == "false"
    assert b"secret" not in response.body


async def test_render_failure(edge: EdgeServer, backend: FakeBackend) -> None:
    """A prompt beyond the context is the client's error."""
    backend.render_error = ServiceError(
        errors_pb2.ERROR_REASON_CONTEXT_LENGTH_EXCEEDED, "too long", "messages"
    )

    error = (await ask(edge.port, {**HELLO, "stream": True})).error

    assert ("context_length_exceeded", "messages") == (error["code"], error["param"])


async def test_no_model_yet(edge: EdgeServer, backend: FakeBackend) -> None:
    """While nothing is connected a request is told to come back, and the list is empty."""
    backend.models = ()

    response = await ask(edge.port, HELLO)

    assert (503, "no_worker_available") == (response.status, response.error["code"])
    assert response.headers["retry-after"] == "1"
    async with raw_client(edge.port) as client:
        client.get("/v1/models")
        assert (await client.response()).json() == {"object": "list", "data": []}


async def test_readiness(edge: EdgeServer, client: RawClient, backend: FakeBackend) -> None:
    """/ready from the first model on, also while all are away; /health at any time."""
    statuses = []
    for is_ready in (False, True, False):
        backend.is_ready = is_ready
        for path in ("/ready", "/health"):
            client.get(path)
            statuses.append((await client.response()).status)

    assert [503, 200, 200, 200, 200, 200] == statuses


async def test_metrics(edge: EdgeServer, client: RawClient) -> None:
    """Requests are counted by route and status, failures by reason."""
    await ask(edge.port, HELLO)
    await ask(edge.port, b"{")
    client.get("/metrics")

    response = await client.response()

    lines = response.body.decode().splitlines()
    assert response.headers["content-type"].startswith("text/plain")
    assert f'headrace_edge_requests_total{{route="{CHAT}",status="200"}} 1.0' in lines
    assert f'headrace_edge_requests_total{{route="{CHAT}",status="400"}} 1.0' in lines
    assert 'headrace_edge_failures_total{reason="invalid_request"} 1.0' in lines
    assert "headrace_edge_requests_in_flight 0.0" in lines

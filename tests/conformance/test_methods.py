"""Every path with every method: answered, or refused in the envelope."""

from collections.abc import AsyncIterator

import pytest

from edge.http_server import EdgeServer
from tests.support.edge_server import (
    HELLO,
    RawClient,
    RawResponse,
    raw_client,
    request_head,
    running_edge,
)
from tests.support.fake_backend import MODEL, FakeBackend

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND")
ORIGIN = {"Origin": "https://elsewhere.example"}
PREFIXES = ("/v1", "/api/v1", "")
# What each path takes; nothing takes anything else.
TAKEN: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("/health", "/ready", "/metrics", "/openapi.json"), ("GET", "HEAD")),
    **dict.fromkeys((f"{prefix}/chat/completions" for prefix in PREFIXES), ("POST",)),
    **dict.fromkeys((f"{prefix}/models" for prefix in PREFIXES), ("GET", "HEAD")),
    **dict.fromkeys((f"{prefix}/models/{MODEL.name}" for prefix in PREFIXES), ("GET", "HEAD")),
}
STORED = "/v1/chat/completions/chatcmpl-1"
NOWHERE = (
    *("/", "/v1", "/v1/", "/v2/chat/completions", "/v1/chat/completions/", "/v1/completions"),
    *("/v1/engines", "/api", "/api/v1/chat", "/chat"),
    *(STORED, f"{STORED}/messages", "/v1//chat/completions", "/V1/chat/completions"),
)


@pytest.fixture
async def edge() -> AsyncIterator[EdgeServer]:
    async with running_edge(FakeBackend()) as edge:
        yield edge


@pytest.fixture
async def client(edge: EdgeServer) -> AsyncIterator[RawClient]:
    async with raw_client(edge.port) as client:
        yield client


def require_headers(response: RawResponse) -> None:
    """What every answer says of itself; nothing that would let a browser's scripts read it."""
    headers = response.headers
    assert headers["x-request-id"].startswith("req_")
    assert headers["openai-processing-ms"].isdigit()
    assert headers["openai-version"] == "2020-10-01"
    assert not any(name.startswith("access-control-") for name in headers)


async def require_refusal(
    client: RawClient, method: str, path: str, status: int, code: str
) -> dict[str, str]:
    """Refused, with all that belongs to it; without a body for HEAD. The connection goes on."""
    client.send(request_head(method, path, "1.1", {**ORIGIN, "Content-Length": 0}))
    if method == "HEAD":
        response = await client.head()
        assert int(response.headers["content-length"]) > 0
    else:
        response = await client.response()
        assert ("invalid_request_error", None, code) == (
            response.error["type"],
            response.error["param"],
            response.error["code"],
        )
        assert method in response.error["message"]
        assert path in response.error["message"]
    assert response.status == status
    assert response.headers["content-type"] == "application/json"
    assert response.headers["x-should-retry"] == "false"
    require_headers(response)
    client.get("/health")
    assert (await client.response()).status == 200
    return response.headers


@pytest.mark.wire("E7.wrong_method", "E16")
@pytest.mark.parametrize("path", TAKEN)
async def test_methods_of_a_path(client: RawClient, path: str) -> None:
    """A path that there is refuses other methods by 405 and names those that it takes."""
    for method in METHODS:
        if method in TAKEN[path]:
            continue
        headers = await require_refusal(client, method, path, 405, "method_not_supported")
        assert headers["allow"] == ", ".join(TAKEN[path])


@pytest.mark.wire("E16", "E17", "A1.path", "A3.path", "A5.base_path")
@pytest.mark.parametrize("path", TAKEN)
async def test_what_a_path_takes(client: RawClient, path: str) -> None:
    """The methods that it names work; HEAD is GET without the body."""
    for method in TAKEN[path]:
        if method == "POST":
            client.post(HELLO, path=path, headers=ORIGIN)
        else:
            client.get(path, method, ORIGIN)
        response = await (client.head() if method == "HEAD" else client.response())

        assert response.status == 200
        require_headers(response)


@pytest.mark.wire("E7.unknown_url", "E15")
@pytest.mark.parametrize("path", NOWHERE)
async def test_paths_that_there_are_not(client: RawClient, path: str) -> None:
    """Unknown paths, those of stored completions among them, are 404 for every method."""
    for method in METHODS:
        await require_refusal(client, method, path, 404, "unknown_url")


@pytest.mark.wire("E15")
async def test_stored_completions_are_not_listed(client: RawClient) -> None:
    """Nothing is stored: the list is refused, as every other GET of that path."""
    await require_refusal(client, "GET", "/v1/chat/completions", 405, "method_not_supported")


@pytest.mark.wire("E7.wrong_method")
async def test_a_method_of_nobody(client: RawClient) -> None:
    """What HTTP does not know as a method is no HTTP: 400 in the envelope, and the end."""
    client.get("/v1/models", "BREW")
    response = await client.response()

    assert (400, "invalid_request_error") == (response.status, response.error["type"])
    assert await client.reader.read() == b""

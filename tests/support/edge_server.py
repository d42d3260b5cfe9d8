"""A real edge on a real port over a fake backend, and a raw client that sees every byte."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from edge.http_server import EdgeServer
from edge.metrics import EdgeMetrics
from edge.settings import (
    AdmissionSettings,
    BackendSettings,
    EdgeSettings,
    ServerSettings,
    StreamingSettings,
)
from headrace.access.settings import GenerationKeysSettings
from headrace.client.answers import ChatBackend
from headrace.runtime.identity import Identity
from headrace.telemetry.service import Telemetry
from headrace.telemetry.spans import NoTracing, Tracing
from tests.support.fake_backend import MODEL

CHAT = "/v1/chat/completions"
HELLO: Mapping[str, Any] = {
    "model": MODEL.name,
    "messages": [{"role": "user", "content": "hello"}],
}


_PLAIN_GROUPS = ("limits", "profiles", "hosts", "aliases", "telemetry")


def edge_settings(**groups: Mapping[str, Any]) -> EdgeSettings:
    """Settings with a free port, and the groups given as plain values."""
    return EdgeSettings(
        server=ServerSettings(**{"port": 0, "drain_grace_seconds": 5, **groups.get("server", {})}),
        admission=AdmissionSettings(**groups.get("admission", {})),
        streaming=StreamingSettings(**groups.get("streaming", {})),
        backend=BackendSettings(**groups.get("backend", {})),
        keys=GenerationKeysSettings(**groups.get("keys", {})),
        **{name: groups[name] for name in _PLAIN_GROUPS if name in groups},
    )


@asynccontextmanager
async def running_edge(
    backend: ChatBackend, /, tracing: Tracing | None = None, **groups: Mapping[str, Any]
) -> AsyncIterator[EdgeServer]:
    """An edge that listens, closed at the end."""
    telemetry = Telemetry(EdgeMetrics(Identity()), tracing or NoTracing())
    server = EdgeServer(edge_settings(**groups), backend, telemetry)
    await server.start()
    try:
        yield server
    finally:
        await server.close()


@dataclass
class RawResponse:
    """A response as it came, its body still framed as sent."""

    status: int
    headers: dict[str, str]
    body: bytes = b""

    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> dict[str, Any]:
        """The envelope; proves its shape."""
        document = self.json()
        assert set(document) == {"error"}
        assert set(document["error"]) == {"message", "type", "param", "code"}
        assert self.headers["content-type"].startswith("application/json")
        assert self.headers["x-request-id"]
        return document["error"]


@dataclass
class RawClient:
    """One connection."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    closed: bool = field(default=False)

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    def post(
        self,
        document: Any,
        *,
        version: str = "1.1",
        headers: Mapping[str, str] | None = None,
        path: str = CHAT,
    ) -> None:
        """Send a whole request; bytes go as they are."""
        body = document if isinstance(document, bytes) else json.dumps(document).encode()
        self.send(
            request_head("POST", path, version, {"Content-Length": len(body), **(headers or {})})
        )
        self.send(body)

    def get(self, path: str, method: str = "GET", headers: Mapping[str, str] | None = None) -> None:
        self.send(request_head(method, path, "1.1", headers or {}))

    async def head(self) -> RawResponse:
        """The next response's status and headers."""
        lines = (await self.reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        pairs = (line.split(": ", 1) for line in lines[1:] if line)
        return RawResponse(int(lines[0].split(" ")[1]), {k.lower(): v for k, v in pairs})

    async def response(self) -> RawResponse:
        """The next response with its body, whichever way it ends."""
        response = await self.head()
        if response.headers.get("transfer-encoding") == "chunked":
            response.body = b"".join([chunk async for chunk in self.chunks()])
        elif "content-length" in response.headers:
            response.body = await self.reader.readexactly(int(response.headers["content-length"]))
        else:
            response.body = await self.reader.read()
        return response

    async def chunks(self) -> AsyncIterator[bytes]:
        """The chunks of a chunked body, checked for their framing."""
        while size := int(await self.reader.readuntil(b"\r\n"), 16):
            chunk = await self.reader.readexactly(size + 2)
            assert chunk.endswith(b"\r\n")
            yield chunk[:-2]
        assert await self.reader.readexactly(2) == b"\r\n"

    async def event(self) -> Any:
        """The next event of a chunked stream that has one event a chunk."""
        size = int(await self.reader.readuntil(b"\r\n"), 16)
        chunk = await self.reader.readexactly(size + 2)
        events = parse_events(chunk[:-2])
        assert len(events) == 1
        return events[0]

    def close(self) -> None:
        """Leave, without a word."""
        self.writer.transport.abort()


@asynccontextmanager
async def raw_client(port: int, **options: Any) -> AsyncIterator[RawClient]:
    """A connection to the edge, closed at the end."""
    place = {} if "sock" in options else {"host": "127.0.0.1", "port": port}
    reader, writer = await asyncio.open_connection(**place, **options)
    client = RawClient(reader, writer)
    try:
        yield client
    finally:
        client.close()


def request_head(method: str, path: str, version: str, headers: Mapping[str, Any]) -> bytes:
    lines = [f"{method} {path} HTTP/{version}", "Content-Type: application/json"]
    lines += [f"{name}: {value}" for name, value in {"Host": "edge", **headers}.items()]
    return "\r\n".join([*lines, "", ""]).encode()


async def wait_until(predicate: Callable[[], bool]) -> None:
    """Let the loop turn until it is so; the test's own timeout bounds it."""
    while not predicate():  # noqa: ASYNC110 (the state of a peer, which tells nobody)
        await asyncio.sleep(0)


def parse_events(body: bytes) -> list[Any]:
    """The events of a stream's body; [DONE] stays text. Strict about the framing."""
    assert body.endswith(b"\n\n")
    events = []
    for block in body.removesuffix(b"\n\n").split(b"\n\n"):
        assert block.startswith(b"data: ")
        assert b"\n" not in block
        data = block.removeprefix(b"data: ")
        events.append("[DONE]" if data == b"[DONE]" else json.loads(data))
    return events


def streamed_text(events: list[Any], index: int = 0) -> str:
    """The text of one output."""
    return "".join(
        choice["delta"].get("content", "")
        for event in events
        if event != "[DONE]" and "error" not in event
        for choice in event["choices"]
        if choice["index"] == index
    )


async def ask(port: int, document: Any, **options: Any) -> RawResponse:
    """One request on a connection of its own."""
    async with raw_client(port) as client:
        client.post(document, **options)
        return await client.response()

"""An HTTP client that hides nothing: raw connections, and answers as they came over the wire."""

import asyncio
import json
import re
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Protocol, Self

import grpc

from headrace.worker.v1.model_pb2 import GetModelRequest, WorkerLoad
from headrace.worker.v1.service_pb2_grpc import GenerationServiceStub
from tests.support.stack import MODEL

CHAT_PATH = "/v1/chat/completions"
DONE = b"data: [DONE]"
_POLL_SECONDS = 0.002


def chat_body(content: str = "Tell me about water.", **fields: Any) -> dict[str, Any]:
    """The body of a chat request with one user message."""
    return {"model": MODEL, "messages": [{"role": "user", "content": content}], **fields}


def http_request(
    body: dict[str, Any] | bytes,
    *,
    path: str = CHAT_PATH,
    headers: tuple[str, ...] = (),
    version: str = "1.1",
) -> bytes:
    """The bytes of a POST."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    head = [f"POST {path} HTTP/{version}", "Host: edge", "Content-Type: application/json"]
    head += [f"Content-Length: {len(data)}", *headers, "", ""]
    return "\r\n".join(head).encode() + data


def http_get(path: str, *headers: str) -> bytes:
    """The bytes of a GET."""
    return "\r\n".join([f"GET {path} HTTP/1.1", "Host: edge", *headers, "", ""]).encode()


class Listener(Protocol):
    """What can be asked."""

    @property
    def address(self) -> str:
        """host:port, of IPv4."""


@dataclass
class Answer:
    """A whole response. `is_cut` means that the connection ended before the response did."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    is_cut: bool = False
    arrivals: list[float] = field(default_factory=list)

    @property
    def json(self) -> Any:
        """The body of an answer that is no stream."""
        return json.loads(self.body)

    @property
    def is_stream(self) -> bool:
        """Whether it came as events."""
        return self.headers.get("content-type", "").startswith("text/event-stream")

    @property
    def events(self) -> list[dict[str, Any]]:
        """All events of a stream but [DONE]; an incomplete last one is left out."""
        complete = self.body.split(b"\n\n")[:-1]
        return [json.loads(event[6:]) for event in complete if event != DONE]

    @property
    def is_done(self) -> bool:
        """Whether the stream ended with [DONE]."""
        return self.body.endswith(DONE + b"\n\n")

    @property
    def error(self) -> dict[str, Any] | None:
        """The error of the envelope or of the stream's last event."""
        found: list[dict[str, Any]] = self.events if self.is_stream else [self.json]
        error: dict[str, Any] | None = found[-1].get("error") if found else None
        return error

    @property
    def is_complete(self) -> bool:
        """A whole good answer, streamed or not."""
        good = self.status == 200 and not self.is_cut and self.error is None
        return good and (self.is_done if self.is_stream else True)

    @property
    def has_text(self) -> bool:
        """Whether a stream's first text has arrived; cheap, for a stream that still runs."""
        return b'"content":" ' in self.body

    def text(self, index: int = 0) -> str:
        """The text of one choice."""
        if not self.is_stream:
            content: str = self.json["choices"][index]["message"]["content"]
            return content
        choices = [choice for event in self.events for choice in event.get("choices", ())]
        deltas = [choice["delta"] for choice in choices if choice["index"] == index]
        return "".join(delta.get("content") or "" for delta in deltas)

    def finish_reason(self, index: int = 0) -> str | None:
        """Why one choice ended."""
        if not self.is_stream:
            reason: str = self.json["choices"][index]["finish_reason"]
            return reason
        for event in self.events:
            for choice in event.get("choices", ()):
                if choice["index"] == index and choice["finish_reason"]:
                    return str(choice["finish_reason"])
        return None

    @property
    def usage(self) -> dict[str, Any]:
        """The usage object."""
        found = self.events[-1] if self.is_stream else self.json
        usage: dict[str, Any] = found["usage"]
        return usage

    @property
    def longest_gap(self) -> float:
        """Longest time between two arrivals of bytes, in seconds."""
        pairs = zip(self.arrivals, self.arrivals[1:], strict=False)
        return max((later - earlier for earlier, later in pairs), default=0.0)


class Connection:
    """One connection to an edge, in the caller's hands byte by byte."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    @classmethod
    async def open(cls, edge: Listener, *, receive_buffer: int | None = None) -> Self:
        """Connect; `receive_buffer` bounds what the kernel takes for us, in bytes."""
        host, _, port = edge.address.rpartition(":")
        raw = socket.socket()
        raw.setblocking(False)
        if receive_buffer is not None:
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        try:
            await asyncio.get_running_loop().sock_connect(raw, (host, int(port)))
        except OSError:
            raw.close()
            raise
        limit = 2**16 if receive_buffer is None else 1
        return cls(*await asyncio.open_connection(sock=raw, limit=limit))

    async def send(self, data: bytes) -> None:
        """Write and wait until it is out of our hands."""
        self.writer.write(data)
        await self.writer.drain()

    async def read_until(self, marker: bytes) -> bytes:
        """Everything up to and including a marker."""
        return await self.reader.readuntil(marker)

    async def read_head(self, answer: Answer) -> None:
        """Read status and headers into `answer`."""
        head = (await self.read_until(b"\r\n\r\n")).decode("latin-1")
        status, *lines = head.split("\r\n")[:-2]
        answer.status = int(status.split()[1])
        pairs = (line.split(":", 1) for line in lines)
        answer.headers = {name.lower(): value.strip() for name, value in pairs}

    async def read_answer(self, into: Answer | None = None) -> Answer:
        """Read one whole response, which grows in `into`; HTTP/1.0 bodies end at the close."""
        answer = Answer() if into is None else into
        try:
            await self.read_head(answer)
            async for part in self._body(answer):
                answer.body += part
                answer.arrivals.append(time.monotonic())
        except (asyncio.IncompleteReadError, ConnectionError):
            answer.is_cut = True
        return answer

    async def _body(self, answer: Answer) -> AsyncIterator[bytes]:
        if answer.headers.get("transfer-encoding") == "chunked":
            while size := int(await self.read_until(b"\r\n"), 16):
                yield (await self.reader.readexactly(size + 2))[:-2]
            await self.reader.readline()
        elif "content-length" in answer.headers:
            yield await self.reader.readexactly(int(answer.headers["content-length"]))
        else:
            while part := await self.reader.read(65536):
                yield part

    def leave(self) -> None:
        """Be gone at once, as a killed client is."""
        self.writer.transport.abort()

    async def close(self) -> None:
        """Close in order."""
        self.writer.close()
        with suppress(ConnectionError):
            await self.writer.wait_closed()


@asynccontextmanager
async def connected(edge: Listener, **options: Any) -> AsyncIterator[Connection]:
    """A connection that is closed at the end."""
    connection = await Connection.open(edge, **options)
    try:
        yield connection
    finally:
        connection.leave()


async def ask(
    edge: Listener, body: dict[str, Any] | bytes, *headers: str, into: Answer | None = None
) -> Answer:
    """One request on a connection of its own; returns its whole answer, which grows in `into`."""
    async with connected(edge) as connection:
        await connection.send(http_request(body, headers=headers))
        return await connection.read_answer(into)


async def get(edge: Listener, path: str) -> Answer:
    """GET on a connection of its own."""
    async with connected(edge) as connection:
        await connection.send(http_get(path))
        return await connection.read_answer()


async def metric(edge: Listener, name: str, **labels: str) -> float:
    """One figure of the edge's metrics; 0 where it does not occur yet."""
    text = (await get(edge, "/metrics")).body.decode()
    wanted = ",".join(f'{key}="{value}"' for key, value in labels.items())
    braces = re.escape(f"{{{wanted}}}") if wanted else ""
    found = re.search(rf"^{name}{braces} (\S+)$", text, re.MULTILINE)
    return float(found[1]) if found else 0.0


async def eventually(
    condition: Callable[[], Awaitable[Any]], what: str, seconds: float = 20.0
) -> float:
    """Poll until the condition holds; returns the seconds that it took, fails when it does not."""
    began = time.monotonic()
    while not await condition():
        if time.monotonic() - began > seconds:
            raise AssertionError(f"{what}: not within {seconds:g} s")
        await asyncio.sleep(_POLL_SECONDS)
    return time.monotonic() - began


class WorkerProbe:
    """Asks a worker how busy it is."""

    def __init__(self, worker: Listener) -> None:
        self._channel = grpc.aio.insecure_channel(
            worker.address, options=[("grpc.use_local_subchannel_pool", 1)]
        )
        self._stub = GenerationServiceStub(self._channel)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_error: object) -> None:
        await self._channel.close()

    async def load(self) -> WorkerLoad:
        """Its load now."""
        response = await self._stub.GetModel(GetModelRequest(), timeout=30)
        load: WorkerLoad = response.load
        return load

    async def running(self) -> int:
        """Requests in its table."""
        return (await self.load()).running_requests

    async def until_running(self, count: int, seconds: float = 20.0) -> float:
        """Wait until so many requests run; returns the seconds that it took."""

        async def holds() -> bool:
            return await self.running() == count

        return await eventually(holds, f"{count} requests run", seconds)

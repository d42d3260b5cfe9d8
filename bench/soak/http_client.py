"""Requests over HTTP as clients really send them: to the end, half, slowly, or gone in the middle.

Each method returns in a word how the request ended, or raises UnexpectedError.
"""

import asyncio
import json
import random
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from types import TracebackType
from typing import Any, Self

import aiohttp

from bench.soak.chances import chat_body
from bench.soak.outcomes import UnexpectedError
from bench.soak.plan import BODY_TIMEOUT_SECONDS

_PATH = "/v1/chat/completions"
_OVERLOADED = ("service_unavailable_error", None)
_SLOW_BUFFER_BYTES = 4096


class _RefusedError(Exception):
    """The server is full and has said so."""


class HttpClient:
    """All HTTP clients together; a context that closes their connections."""

    def __init__(self, port: int, model: str) -> None:
        self._port = port
        self._model = model

    async def __aenter__(self) -> Self:
        base, timeout = f"http://127.0.0.1:{self._port}", aiohttp.ClientTimeout()
        self._session = aiohttp.ClientSession(
            base, timeout=timeout, connector=aiohttp.TCPConnector(limit=0)
        )
        slow = aiohttp.TCPConnector(limit=0, force_close=True, socket_factory=_small_socket)
        self._slow_session = aiohttp.ClientSession(
            base, timeout=timeout, connector=slow, read_bufsize=_SLOW_BUFFER_BYTES
        )
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._session.close()
        await self._slow_session.close()

    async def whole(self, chance: random.Random) -> str:
        """An answer in one piece."""
        body = chat_body(chance, self._model, stream=False)
        try:
            async with self._session.post(_PATH, json=body) as response:
                await _require_ok(response)
                _check_whole(await response.json(), body)
        except _RefusedError:
            return "refused"
        return "answered"

    async def whole_left(self, chance: random.Random) -> str:
        """The client leaves before the answer is there, if it is quick enough."""
        try:
            async with asyncio.timeout(chance.uniform(0, 3)):
                return await self.whole(chance)
        except TimeoutError:
            return "left"

    async def stream(self, chance: random.Random) -> str:
        """A stream to its end."""
        return await self._stream(self._session, chance)

    async def stream_left(self, chance: random.Random) -> str:
        """The client leaves after some events, perhaps before the first."""
        return await self._stream(self._session, chance, leave_after=chance.randrange(40))

    async def stream_slow(self, chance: random.Random) -> str:
        """A reader that takes little at a time and pauses."""
        return await self._stream(self._slow_session, chance, pause=chance.uniform(0.005, 0.05))

    async def half_sent(self, chance: random.Random) -> str:
        """The connection ends inside the head or the body, or the server loses patience."""
        body = json.dumps(chat_body(chance, self._model, stream=True)).encode()
        head = (
            f"POST {_PATH} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\n\r\n"
        ).encode()
        is_patient = chance.random() < 0.3
        least = len(head) if is_patient else 0
        sent = (head + body)[: chance.randrange(least, len(head) + len(body))]
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        try:
            writer.write(sent)
            await writer.drain()
            if is_patient:
                return await _told_to_hurry(reader)
            await asyncio.sleep(chance.uniform(0, 2))
            return "half sent"
        finally:
            writer.transport.abort()
            with suppress(OSError):
                await writer.wait_closed()

    async def _stream(
        self,
        session: aiohttp.ClientSession,
        chance: random.Random,
        *,
        pause: float = 0.0,
        leave_after: int | None = None,
    ) -> str:
        body = chat_body(chance, self._model, stream=True)
        events: list[dict[str, Any]] = []
        try:
            async with session.post(_PATH, json=body) as response:
                await _require_ok(response)
                async for event in _events(response):
                    if leave_after is not None and len(events) >= leave_after:
                        return "left"
                    events.append(event)
                    if pause:
                        await asyncio.sleep(pause)
        except _RefusedError:
            return "refused"
        _check_stream(events, body)
        return "answered"


async def _told_to_hurry(reader: asyncio.StreamReader) -> str:
    """The server's answer to a body that does not come, with a little patience of our own."""
    async with asyncio.timeout(BODY_TIMEOUT_SECONDS + 15):
        status = await reader.readline()
        await reader.read()
    if not status.startswith(b"HTTP/1.1 408 "):
        raise UnexpectedError(f"half a body was answered {status!r}")
    return "timed out"


def _small_socket(address: tuple[Any, ...]) -> socket.socket:
    made = socket.socket(address[0], address[1], address[2])
    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _SLOW_BUFFER_BYTES)
    return made


async def _require_ok(response: aiohttp.ClientResponse) -> None:
    if response.status == 200:
        return
    text = await response.text()
    with suppress(ValueError, TypeError, KeyError):
        if _is_refusal(json.loads(text)["error"]) and "retry-after" in response.headers:
            raise _RefusedError
    raise UnexpectedError(f"HTTP {response.status}: {text[:300]}")


async def _events(response: aiohttp.ClientResponse) -> AsyncIterator[dict[str, Any]]:
    """The events of a stream; raises unless [DONE] is the last."""
    is_done = False
    async for line in response.content:
        if is_done and line.strip():
            raise UnexpectedError(f"a stream went on after [DONE]: {line[:100]!r}")
        if line.startswith(b"data: [DONE]"):
            is_done = True
        elif line.startswith(b"data: "):
            event = json.loads(line[6:])
            _check_no_error(event)
            yield event
    if not is_done:
        raise UnexpectedError("a stream ended without [DONE]")


def _check_no_error(event: dict[str, Any]) -> None:
    error = event.get("error")
    if error is None:
        return
    if _is_refusal(error):
        raise _RefusedError
    raise UnexpectedError(f"a stream failed: {error}")


def _check_whole(answer: dict[str, Any], body: dict[str, Any]) -> None:
    indexes = [choice["index"] for choice in answer["choices"]]
    reasons = [choice["finish_reason"] for choice in answer["choices"]]
    _check(indexes, reasons, answer["usage"], body)


def _check_stream(events: list[dict[str, Any]], body: dict[str, Any]) -> None:
    ends = [
        (choice["index"], choice["finish_reason"])
        for event in events
        for choice in event["choices"]
        if choice["finish_reason"]
    ]
    usage = events[-1]["usage"] if events else None
    _check(sorted(index for index, _ in ends), [reason for _, reason in ends], usage, body)


def _check(
    indexes: list[int], reasons: list[str], usage: dict[str, Any] | None, body: dict[str, Any]
) -> None:
    most = body["n"] * body["max_tokens"]
    if indexes != list(range(body["n"])) or not set(reasons) <= {"stop", "length"}:
        raise UnexpectedError(f"n is {body['n']}, ends came for {indexes}: {reasons}")
    if usage is None or not 1 <= usage["completion_tokens"] <= most:
        raise UnexpectedError(f"at most {most} tokens were asked for, usage says {usage}")


def _is_refusal(error: Mapping[str, Any]) -> bool:
    return (error["type"], error["code"]) == _OVERLOADED

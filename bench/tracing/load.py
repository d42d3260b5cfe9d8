"""Requests that arrive at a steady rate, whether or not earlier ones have ended."""

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass

_SECONDS_A_REQUEST = 30.0
_LAST_EVENT = b"data: [DONE]\n\n"


@dataclass(frozen=True)
class Arrivals:
    """So many streamed requests, so many a second, to one port after the other."""

    ports: Sequence[int]
    model: str
    requests: int
    per_second: float
    tokens: int

    def message(self) -> bytes:
        """One request as it is sent."""
        body = json.dumps(
            {
                "model": self.model,
                "messages": [{"role": "user", "content": "Tell me of a dragon and a knight."}],
                "stream": True,
                "max_tokens": self.tokens,
                "temperature": 0.7,
                "stop": ["\n\nUser:"],
            }
        ).encode()
        head = (
            "POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        return head.encode() + body


async def run(arrivals: Arrivals) -> None:
    """Send them all, and return when all are answered. Raises RuntimeError where one is not."""
    loop = asyncio.get_running_loop()
    message = arrivals.message()
    began = loop.time()
    async with asyncio.timeout(arrivals.requests / arrivals.per_second + _SECONDS_A_REQUEST):
        async with asyncio.TaskGroup() as tasks:
            for number in range(arrivals.requests):
                await asyncio.sleep(began + number / arrivals.per_second - loop.time())
                port = arrivals.ports[number % len(arrivals.ports)]
                tasks.create_task(_ask(port, message))


async def _ask(port: int, message: bytes) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(message)
    answer = await reader.read(-1)
    writer.close()
    if _LAST_EVENT not in answer:
        raise RuntimeError(f"no whole answer: {answer[:2000].decode()}")

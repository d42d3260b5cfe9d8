"""The load generator: N streaming clients in one process, measured over a window.

    python -m bench.streaming.load '{"port": …, "streams": …, …}'

Prints one JSON object: tokens and CPU seconds of the window, the rate, gaps between chunks.
Each chunk is `hex CRLF data: … LF LF CRLF`: four line feeds, however the network cuts it.
"""

import asyncio
import json
import sys
from array import array
from dataclasses import asdict, dataclass
from typing import cast

import uvloop

from bench.streaming.cpu import cpu_seconds

_LINE_FEEDS_A_CHUNK = 4
_RAMP_SECONDS = 60.0


@dataclass(frozen=True)
class LoadPlan:
    """What to ask for and how long to watch. `pids` are the processes whose CPU is read."""

    port: int
    model: str
    streams: int
    rate: float
    window_seconds: float
    settle_seconds: float
    pids: tuple[int, ...]


@dataclass
class LoadResult:
    """What one window showed; CPU seconds in the order of the plan's pids."""

    tokens: int
    seconds: float
    cpu_seconds: list[float]
    achieved: float
    gap_p50_ms: float
    gap_p99_ms: float
    gap_max_ms: float
    lost_streams: int


class _Stream(asyncio.Protocol):
    """One client. `chunks` counts text chunks, the role chunk included."""

    def __init__(self, request: bytes, gaps: "array[float]", begun: asyncio.Semaphore) -> None:
        self._request = request
        self._gaps = gaps
        self._begun = begun
        self._line_feeds = 0
        self._last = 0.0
        self._is_streaming = False
        self.is_lost = False
        self._loop = asyncio.get_running_loop()

    @property
    def chunks(self) -> int:
        return self._line_feeds // _LINE_FEEDS_A_CHUNK

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are no subclasses of asyncio's.
        transport = cast(asyncio.Transport, transport)
        self.transport = transport
        transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        self._line_feeds += data.count(b"\n")
        now = self._loop.time()
        if self._last:
            self._gaps.append(now - self._last)
        self._last = now
        if not self._is_streaming and b'{"content"' in data:
            self._is_streaming = True
            self._begun.release()

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        self.is_lost = True


def _request(plan: LoadPlan) -> bytes:
    # Long enough to outlive the window: it is cut, not awaited.
    tokens = int(plan.rate * (plan.window_seconds + plan.settle_seconds + _RAMP_SECONDS))
    body = json.dumps(
        {
            "model": plan.model,
            "messages": [
                {"role": "system", "content": "You are a helpful assistant."},
                {"role": "user", "content": "Tell me a story about a dragon and a knight."},
            ],
            "stream": True,
            "max_tokens": tokens,
            "temperature": 0.7,
            "stop": ["\n\nUser:"],
        }
    ).encode()
    head = (
        "POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


async def _measure(plan: LoadPlan) -> LoadResult:
    loop = asyncio.get_running_loop()
    request, gaps, begun = _request(plan), array("d"), asyncio.Semaphore(0)
    streams: list[_Stream] = []
    for _ in range(plan.streams):
        _, stream = await loop.create_connection(
            lambda: _Stream(request, gaps, begun), "127.0.0.1", plan.port
        )
        streams.append(stream)
    async with asyncio.timeout(_RAMP_SECONDS):
        for _ in range(plan.streams):
            await begun.acquire()
    await asyncio.sleep(plan.settle_seconds)
    first_tokens = sum(stream.chunks for stream in streams)
    first_cpu = [cpu_seconds(pid) for pid in plan.pids]
    first_time = loop.time()
    del gaps[:]
    await asyncio.sleep(plan.window_seconds)
    seconds = loop.time() - first_time
    cpu = [cpu_seconds(pid) - before for pid, before in zip(plan.pids, first_cpu, strict=True)]
    tokens = sum(stream.chunks for stream in streams) - first_tokens
    ordered = sorted(gaps) or [0.0]
    lost = sum(stream.is_lost for stream in streams)
    for stream in streams:
        stream.transport.abort()
    return LoadResult(
        tokens=tokens,
        seconds=seconds,
        cpu_seconds=cpu,
        achieved=tokens / (plan.streams * plan.rate * seconds),
        gap_p50_ms=1e3 * ordered[len(ordered) // 2],
        gap_p99_ms=1e3 * ordered[int(len(ordered) * 0.99)],
        gap_max_ms=1e3 * ordered[-1],
        lost_streams=lost,
    )


if __name__ == "__main__":
    result = uvloop.run(_measure(LoadPlan(**json.loads(sys.argv[1]))))
    sys.stdout.write(json.dumps(asdict(result)) + "\n")

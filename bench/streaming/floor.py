"""The floor: a process that writes one prebuilt chunk to each of its connections, tick after tick.

    python -m bench.streaming.floor PORT CHUNK_FILE CHUNKS_PER_SECOND

It parses nothing and knows nothing; what a service costs above it is that service's own work.
"""

import asyncio
import sys
from pathlib import Path
from typing import cast

import uvloop

_HEAD = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n"
)


class _Connection(asyncio.Protocol):
    def __init__(self, connections: set[asyncio.Transport]) -> None:
        self._connections = connections

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are no subclasses of asyncio's.
        transport = cast(asyncio.Transport, transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        if data.endswith(b"}"):  # the end of the request's body
            self._transport.write(_HEAD)
            self._connections.add(self._transport)

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        self._connections.discard(self._transport)


async def _serve(port: int, chunk: bytes, rate: float) -> None:
    loop = asyncio.get_running_loop()
    connections: set[asyncio.Transport] = set()
    await loop.create_server(lambda: _Connection(connections), "127.0.0.1", port, backlog=4096)
    due = loop.time()
    while True:
        due = max(due + 1 / rate, loop.time() - 1.0)
        await asyncio.sleep(max(0.0, due - loop.time()))
        for transport in connections:
            transport.write(chunk)


if __name__ == "__main__":
    uvloop.run(_serve(int(sys.argv[1]), Path(sys.argv[2]).read_bytes(), float(sys.argv[3])))

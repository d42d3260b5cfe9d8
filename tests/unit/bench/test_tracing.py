"""The verdicts of the benchmark of tracing, by figures that are known."""

import asyncio
import math
from collections.abc import Mapping

import pytest

from bench.tracing.figures import Figures, lag_below
from bench.tracing.load import Arrivals, run

_BOUNDS = (0.001, 0.01, 0.1, math.inf)


def figures(*below: float) -> Figures:
    lag: Mapping[float, float] = dict(zip(_BOUNDS, below, strict=True))
    return Figures(0, 0, lag)


def test_lag_is_of_the_time_between() -> None:
    """Of the probes between two moments 99 % were below the bound; earlier ones do not count."""
    before = figures(0, 0, 0, 500)
    assert lag_below(before, figures(98, 99, 100, 600), 0.99) == 0.01
    assert lag_below(before, figures(99, 99, 100, 600), 0.99) == 0.001
    assert lag_below(before, figures(98, 98, 98, 600), 0.99) == math.inf


def test_no_probes_are_no_good_lag() -> None:
    """A loop that was not probed passes nothing."""
    with pytest.raises(RuntimeError, match="not probed"):
        lag_below(figures(1, 2, 3, 4), figures(1, 2, 3, 4), 0.99)


async def serve(answer: bytes, asked: list[int], number: int) -> asyncio.Server:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        asked.append(number)
        writer.write(answer)
        writer.close()

    return await asyncio.start_server(handle, "127.0.0.1", 0)


def port_of(server: asyncio.Server) -> int:
    port: int = server.sockets[0].getsockname()[1]
    return port


async def test_requests_go_to_each_in_turn() -> None:
    """Every set of services gets as many requests as every other."""
    asked: list[int] = []
    answer = b"HTTP/1.1 200 OK\r\n\r\ndata: [DONE]\n\n"
    servers = [await serve(answer, asked, number) for number in range(3)]
    await run(Arrivals([port_of(server) for server in servers], "m", 9, 10_000, 4))
    for server in servers:
        server.close()
    assert sorted(asked) == [0, 0, 0, 1, 1, 1, 2, 2, 2]


async def test_refused_requests_are_no_measurement() -> None:
    """An answer that is not whole ends the run: its cost would be that of something else."""
    server = await serve(b"HTTP/1.1 503 Service Unavailable\r\n\r\n", [], 0)
    with pytest.raises(ExceptionGroup) as caught:
        await run(Arrivals([port_of(server)], "m", 1, 10_000, 4))
    server.close()
    assert "503 Service Unavailable" in str(caught.value.exceptions[0])

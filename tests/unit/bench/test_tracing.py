"""The verdicts of the benchmark of tracing, by figures that are known."""

import asyncio
import math
from collections.abc import Mapping

import pytest

from bench.tracing.costs import Outcome, Start, net_shares, verdicts
from bench.tracing.figures import Figures, lag_below
from bench.tracing.load import Arrivals, run
from bench.tracing.sets import AGAIN, ALL, NONE, OFF, RATIOS, order_of

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


def start(idle: Mapping[str, float], *rounds: Mapping[str, float]) -> Start:
    """Figures of each set by mode; half of them the edge's, half the worker's."""
    by_mode = {
        mode: [{"edge": each[mode] / 2, "worker": each[mode] / 2} for each in rounds]
        for mode in RATIOS
    }
    return Start({mode: {"edge": idle[mode]} for mode in RATIOS}, by_mode)


def sets(off: float, again: float, none: float, every: float) -> Mapping[str, float]:
    return {OFF: off, AGAIN: again, NONE: none, ALL: every}


QUIET = sets(8, 8, 8, 8)


def outcome(*starts: Start, lag: float = 2.5, spans: float = 9, dropped: float = 0) -> Outcome:
    lags = {mode: {"edge": 1.0, "worker": lag if mode == ALL else 99.0} for mode in RATIOS}
    return Outcome(starts, lags, spans, dropped)


def test_cost_is_a_median_within_rounds() -> None:
    """A round in which all were slow changes nothing; the sets without tracing are averaged."""
    one = start(QUIET, sets(4, 6, 5.5, 6), sets(40, 42, 41.5, 42), sets(4, 6, 9, 20))
    assert (one.cost(NONE), one.cost(ALL), one.cost(AGAIN)) == (0.5, 1, 2)


def test_cost_is_the_median_of_the_starts() -> None:
    """One start whose processes happened to be slow decides nothing."""
    starts = [start(QUIET, sets(4, 4, 4 + cost, 5)) for cost in (0.25, 0.5, 8)]
    assert outcome(*starts).cost(NONE) == 0.5


def test_being_there_is_no_part_of_a_request() -> None:
    """What a set would have used anyway is taken off: 100 ms in 2 s, 10 ms/s idle, 40 requests."""
    assert net_shares({"edge": 1.0}, {"edge": 1.1}, {"edge": 10.0}, 2.0, 40) == {
        "edge": pytest.approx(2.0)
    }


def test_idle_cost() -> None:
    """What a set uses more than those without tracing while nothing is asked is told apart."""
    one = start(sets(8, 10, 9.5, 11), QUIET)
    assert (one.idle_cost(NONE), one.idle_cost(ALL), one.idle_cost(AGAIN)) == (0.5, 2, 2)


@pytest.mark.parametrize(
    ("seen", "broken"),
    [
        (outcome(start(QUIET, sets(4, 4, 4.0625, 5.5))), []),
        (outcome(start(QUIET, sets(4, 4.125, 4.0625, 5))), ["two sets without tracing"]),
        (outcome(start(QUIET, sets(4, 3.875, 4, 5))), ["two sets without tracing"]),
        (outcome(start(QUIET, sets(4, 4, 4.125, 5))), ["tracing 0 %:"]),
        (outcome(start(QUIET, sets(4, 4, 4, 5.75))), ["tracing 100 %:"]),
        (outcome(start(sets(8, 8, 9.5, 8), QUIET)), ["tracing 0 %, idle"]),
        (outcome(start(sets(8, 8, 8, 9.5), QUIET)), ["tracing 100 %, idle"]),
        (outcome(start(QUIET, QUIET), lag=25), ["loop lag"]),
        (outcome(start(QUIET, QUIET), spans=6.5), ["6.50 spans"]),
        (outcome(start(QUIET, QUIET), dropped=1), ["1 spans were lost"]),
    ],
)
def test_verdicts(seen: Outcome, broken: list[str]) -> None:
    """Each bound is judged for itself, and noise that hides the smallest one is a broken bound."""
    found = [text for is_kept, text in verdicts(seen) if not is_kept]
    assert len(found) == len(broken)
    assert all(text.startswith(begin) for text, begin in zip(found, broken, strict=True))


def test_orders() -> None:
    """Every set is first, and last, as often as any other, and follows more than one."""
    orders = [order_of(number) for number in range(8)]
    assert all(sorted(order) == sorted(RATIOS) for order in orders)
    for mode in RATIOS:
        assert [order[0] for order in orders].count(mode) == 2
        assert [order[-1] for order in orders].count(mode) == 2
    assert len({order[order.index(ALL) - 1] for order in orders}) > 1


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

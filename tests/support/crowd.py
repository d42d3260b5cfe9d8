"""Clients that ask again and again, at whichever edge is listed at that moment.

As with a Service's address: a new connection goes to an edge that is listed when it is opened; one
that is kept stays with its edge until it is closed, listed or not. A client whose request found a
kept connection closed, or its edge gone from the list and taking nothing more, asks once more on a
new one, as HTTP clients do.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from tests.support.answer_check import difference
from tests.support.chat_client import Answer, Connection, chat_body, eventually, http_request

Listed: TypeAlias = Callable[[], Sequence[str]]
"""The addresses of the edges, host:port, that are listed now."""
# What a client waits before it tries again where nobody let it in.
_RETRY_SECONDS = 0.1
_SHOWN_PROBLEMS = 8


def streamed(content: str, max_tokens: int, **fields: Any) -> dict[str, Any]:
    """The body of a request for a stream with usage."""
    usage = {"include_usage": True}
    return chat_body(content, max_tokens=max_tokens, stream=True, stream_options=usage, **fields)


@dataclass(frozen=True, slots=True)
class Place:
    """An edge, by its address."""

    address: str


@dataclass
class Exchange:
    """One request and what became of it."""

    client: int
    address: str
    """Empty where none was listed."""
    is_listed: bool
    """Whether the address was listed when the request was sent."""
    is_reused: bool
    """Whether it went over a connection that had been used before."""
    began: float
    answer: Answer = field(default_factory=Answer)
    refusal: str = ""
    """Why it could not even be sent."""
    ended: float | None = None
    """As `began`, of time.monotonic; unset while it runs."""

    @property
    def has_text(self) -> bool:
        """Whether more than the first chunk is there; cheap, for a stream that still runs."""
        return len(self.answer.arrivals) > 1

    @property
    def found_closed(self) -> bool:
        """Whether its kept connection had been closed by the edge, so that it was asked again."""
        return self.is_reused and self.answer.is_cut and not self.answer.status

    @property
    def was_turned_away(self) -> bool:
        """Whether its kept connection led to an edge that had left the list and took nothing."""
        return self.is_reused and not self.is_listed and self.answer.status == 503

    @property
    def is_void(self) -> bool:
        """Whether it was one of these two, and its client has asked again."""
        return self.found_closed or self.was_turned_away

    def problem(self, undisturbed: Answer) -> str:
        """What is wrong with it; empty when nothing is."""
        wrong = self.refusal or difference(self.answer, undisturbed)
        if not wrong:
            return ""
        kept = "kept" if self.is_reused else "new"
        listed = "listed" if self.is_listed else "not listed any more"
        return f"client {self.client} at {self.address} ({listed}, {kept} connection): {wrong}"


class _Client:
    """One that asks the same question again once it is answered."""

    def __init__(self, number: int, listed: Listed, data: bytes, *, is_keeping: bool) -> None:
        self._number, self._listed, self._data = number, listed, data
        self._is_keeping = is_keeping
        self._kept: tuple[Connection, str] | None = None
        self._turn = number
        self.exchanges: list[Exchange] = []

    async def ask(self) -> None:
        """Ask once; what comes of it is the last exchange."""
        exchange = await self._sent()
        if exchange.is_void:
            exchange = await self._sent()
        if exchange.refusal or exchange.answer.status >= 500:
            await asyncio.sleep(_RETRY_SECONDS)

    async def _sent(self) -> Exchange:
        exchange = self._exchange()
        self.exchanges.append(exchange)
        try:
            await self._run(exchange)
        except OSError as error:
            exchange.refusal = f"refused: {error}"
        exchange.ended = time.monotonic()
        return exchange

    def _exchange(self) -> Exchange:
        addresses = self._listed()
        if self._kept is not None and self._kept[0].reader.at_eof():
            self.leave()
        if self._kept is not None:
            address = self._kept[1]
        else:
            self._turn += 1
            address = addresses[self._turn % len(addresses)] if addresses else ""
        is_reused = self._kept is not None
        return Exchange(self._number, address, address in addresses, is_reused, time.monotonic())

    async def _run(self, exchange: Exchange) -> None:
        if not exchange.address:
            exchange.refusal = "no address is listed"
            return
        if self._kept is None:
            connection = await Connection.open(Place(exchange.address))
            self._kept = (connection, exchange.address)
        connection, _ = self._kept
        connection.writer.write(self._data)
        answer = await connection.read_answer(exchange.answer)
        closes = answer.is_cut or answer.headers.get("connection", "").lower() == "close"
        if closes or not self._is_keeping:
            self.leave()

    def leave(self) -> None:
        """Close the connection, if there is one."""
        if self._kept is not None:
            self._kept[0].leave()
            self._kept = None


class Crowd:
    """Many clients, each on its own; every second keeps its connection, if any is to."""

    def __init__(
        self, listed: Listed, bodies: Sequence[dict[str, Any]], *, keeping: bool = False
    ) -> None:
        self._clients = [
            _Client(i, listed, http_request(body), is_keeping=keeping and i % 2 == 1)
            for i, body in enumerate(bodies)
        ]
        self._is_streamed = [bool(body.get("stream")) for body in bodies]
        self._is_enough = False
        self._tasks = [asyncio.create_task(self._live(client)) for client in self._clients]

    async def _live(self, client: _Client) -> None:
        await client.ask()
        while not self._is_enough:
            await client.ask()

    @property
    def of_clients(self) -> Sequence[Sequence[Exchange]]:
        """Each client's exchanges, in order; the last may still run."""
        return [client.exchanges for client in self._clients]

    @property
    def exchanges(self) -> list[Exchange]:
        """All but the void ones."""
        return [each for own in self.of_clients for each in own if not each.is_void]

    @property
    def void(self) -> list[Exchange]:
        """Those whose kept connection had been of no use any more."""
        return [each for own in self.of_clients for each in own if each.is_void]

    @property
    def turned_away(self) -> list[Exchange]:
        """The void ones that an edge answered."""
        return [each for each in self.void if each.was_turned_away]

    @property
    def open_streams(self) -> list[Exchange]:
        """Those that have begun to be answered and have not ended."""
        lasts = [own[-1] for own in self.of_clients if own]
        return [each for each in lasts if each.ended is None and each.has_text]

    async def have_text(self, seconds: float = 60.0) -> None:
        """Return when every client that streams has text in its newest answer."""

        async def holds() -> bool:
            pairs = zip(self.of_clients, self._is_streamed, strict=True)
            return all(own and own[-1].has_text for own, is_streamed in pairs if is_streamed)

        await eventually(holds, "every stream has text", seconds)

    def stop_asking(self) -> None:
        """Let what runs be the last."""
        self._is_enough = True

    async def finish(self) -> None:
        """Return when everybody has read his last answer."""
        self.stop_asking()
        await asyncio.gather(*self._tasks)

    async def leave(self) -> None:
        """Be gone."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for client in self._clients:
            client.leave()

    def require_no_problems(self, undisturbed: Sequence[Answer]) -> None:
        """Fail when anything is wrong with any; the answer that is due to each client is given."""
        exchanges = self.exchanges
        found = [exchange.problem(undisturbed[exchange.client]) for exchange in exchanges]
        problems = [problem for problem in found if problem]
        if problems:
            shown = "\n".join(problems[:_SHOWN_PROBLEMS])
            raise AssertionError(f"{len(problems)} of {len(exchanges)} are wrong:\n{shown}")


@asynccontextmanager
async def gathered(
    listed: Listed, bodies: Sequence[dict[str, Any]], *, keeping: bool = False
) -> AsyncIterator[Crowd]:
    """A crowd that reads its last answers at the end, and is gone whatever happens."""
    crowd = Crowd(listed, bodies, keeping=keeping)
    try:
        yield crowd
        await crowd.finish()
    finally:
        await crowd.leave()

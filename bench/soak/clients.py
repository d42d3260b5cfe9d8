"""The crowd: clients that ask, wait and ask again, with a burst now and then."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping

import aiohttp
from grpc.aio import AioRpcError

from bench.soak.grpc_client import GrpcClient
from bench.soak.http_client import HttpClient
from bench.soak.outcomes import Outcomes, UnexpectedError
from bench.soak.plan import REQUEST_SECONDS, SoakPlan

# A connection that broke, or an answer of a shape that none should have.
_FAILURES = (aiohttp.ClientError, AioRpcError, OSError, ValueError, KeyError, EOFError)

Ask = Callable[[random.Random], Awaitable[str]]


def kinds(http: HttpClient, grpc: GrpcClient) -> Mapping[str, tuple[Ask, int]]:
    """Every kind of request with its weight."""
    return {
        "whole": (http.whole, 18),
        "whole, left": (http.whole_left, 8),
        "stream": (http.stream, 24),
        "stream, left": (http.stream_left, 16),
        "stream, slow reader": (http.stream_slow, 8),
        "half sent": (http.half_sent, 8),
        "guided": (grpc.guided, 10),
        "guided, left": (grpc.guided_left, 5),
        "guided, late": (grpc.guided_late, 3),
    }


class Crowd:
    """`plan.clients` clients; each chooses by a generator of its own, seeded by its number."""

    def __init__(
        self, plan: SoakPlan, asks: Mapping[str, tuple[Ask, int]], outcomes: Outcomes
    ) -> None:
        self._plan = plan
        self._asks = asks
        self._outcomes = outcomes
        self._burst = asyncio.Event()
        self._is_over = False
        self._clients: list[asyncio.Task[None]] = []

    async def run(self, stop: asyncio.Event) -> None:
        """Ask until `stop`; then let what runs end, for as long as a request may take."""
        bursts = asyncio.create_task(self._bursts())
        self._clients = [
            asyncio.create_task(self._client(number)) for number in range(self._plan.clients)
        ]
        try:
            await stop.wait()
            self._is_over = True
            self._burst.set()
            await asyncio.wait(self._clients, timeout=REQUEST_SECONDS + 10)
        finally:
            for task in (bursts, *self._clients):
                task.cancel()
            ends = await asyncio.gather(bursts, *self._clients, return_exceptions=True)
        for end in ends:
            if isinstance(end, Exception):
                self._outcomes.fail("client", f"it broke down: {end!r}")

    async def _bursts(self) -> None:
        while True:
            await asyncio.sleep(self._plan.burst_seconds)
            burst, self._burst = self._burst, asyncio.Event()
            burst.set()

    async def _client(self, number: int) -> None:
        chance = random.Random(f"{self._plan.seed} client {number}")
        names = list(self._asks)
        weights = [weight for _, weight in self._asks.values()]
        while True:
            await self._pause(chance.expovariate(self._plan.rate / self._plan.clients))
            if self._is_over:
                return
            kind = chance.choices(names, weights)[0]
            await self._ask(kind, self._asks[kind][0], chance)

    async def _pause(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._burst.wait()
        except TimeoutError:
            return

    async def _ask(self, kind: str, ask: Ask, chance: random.Random) -> None:
        limit = asyncio.timeout(REQUEST_SECONDS)
        try:
            async with limit:
                how = await ask(chance)
        except UnexpectedError as error:
            self._outcomes.fail(kind, str(error))
        except TimeoutError:
            when = f"not ended after {REQUEST_SECONDS:g} s" if limit.expired() else "timed out"
            self._outcomes.fail(kind, when)
        except _FAILURES as error:
            self._outcomes.fail(kind, f"{type(error).__name__}: {error}")
        except asyncio.CancelledError:
            self._outcomes.fail(kind, "still running when the load had ended")
            raise
        else:
            self._outcomes.expected(kind, how)

"""The load generator: first as many clients as there are places, then arrivals at a set rate.

    python -m bench.overload.load '{"port": …, "model": "…", "clients": 64, …}'

Prints one JSON object with both phases. Arrivals are independent of answers, so that a slow server
is not spared; those beyond `most_open` unanswered ones are not sent and counted.
"""

import asyncio
import json
import random
import sys
import time
from dataclasses import asdict, dataclass, field

import aiohttp
import uvloop

_OK, _UNAVAILABLE = 200, 503


@dataclass(frozen=True)
class OverloadPlan:
    """What to ask for. `factor` is arrivals per second in units of the capacity measured first."""

    port: int
    model: str
    clients: int
    max_tokens: int
    capacity_seconds: float
    factor: float
    seconds: float
    most_open: int


@dataclass
class Phase:
    """What became of the requests of one phase; times in milliseconds."""

    seconds: float = 0.0
    sent: int = 0
    not_sent: int = 0
    served: int = 0
    refused: int = 0
    refused_without_retry_after: int = 0
    unexpected: dict[str, int] = field(default_factory=dict)
    refusal_ms: list[float] = field(default_factory=list)
    first_chunk_ms: list[float] = field(default_factory=list)

    def count_unexpected(self, what: str) -> None:
        """Something that an overloaded server must not do."""
        self.unexpected[what] = self.unexpected.get(what, 0) + 1


class Load:
    """Sends requests that differ in length alone: were they alike, all would end at once for ever.

    Lengths are drawn evenly from half to one and a half of the plan's `max_tokens`.
    """

    def __init__(self, plan: OverloadPlan, session: aiohttp.ClientSession) -> None:
        self._plan = plan
        self._session = session
        self._chance = random.Random(1)

    def _body(self) -> bytes:
        most = self._plan.max_tokens
        return json.dumps(
            {
                "model": self._plan.model,
                "messages": [{"role": "user", "content": "How are you?"}],
                "max_tokens": self._chance.randint(most // 2, most + most // 2),
                "stream": True,
            }
        ).encode()

    async def closed_loop(self) -> Phase:
        """Every client asks again as soon as it is answered."""
        phase = Phase()
        began = time.perf_counter()
        end = began + self._plan.capacity_seconds

        async def client() -> None:
            while time.perf_counter() < end:
                await self._ask(phase)

        await asyncio.gather(*(client() for _ in range(self._plan.clients)))
        phase.seconds = time.perf_counter() - began
        return phase

    async def open_loop(self, rate: float) -> Phase:
        """Arrivals at random, `rate` a second on average.

        All answers are awaited, and what is served counts over the time until the last of them.
        """
        phase, tasks = Phase(), set[asyncio.Task[None]]()
        loop = asyncio.get_running_loop()
        began = due = loop.time()
        while (due := due + self._chance.expovariate(rate)) < began + self._plan.seconds:
            await asyncio.sleep(max(0.0, due - loop.time()))
            if len(tasks) >= self._plan.most_open:
                phase.not_sent += 1
                continue
            task = asyncio.create_task(self._ask(phase))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
        await asyncio.gather(*tasks)
        phase.seconds = loop.time() - began
        return phase

    async def _ask(self, phase: Phase) -> None:
        phase.sent += 1
        began = time.perf_counter()
        try:
            async with self._session.post(
                "/v1/chat/completions",
                data=self._body(),
                headers={"Content-Type": "application/json"},
            ) as response:
                await self._read(response, phase, began)
        except (aiohttp.ClientError, TimeoutError) as error:
            phase.count_unexpected(type(error).__name__)

    async def _read(self, response: aiohttp.ClientResponse, phase: Phase, began: float) -> None:
        if response.status == _UNAVAILABLE:
            await response.read()
            phase.refusal_ms.append(1000 * (time.perf_counter() - began))
            phase.refused += 1
            phase.refused_without_retry_after += "Retry-After" not in response.headers
        elif response.status == _OK:
            await response.content.readany()
            phase.first_chunk_ms.append(1000 * (time.perf_counter() - began))
            rest = await response.content.read()
            if rest.endswith(b"data: [DONE]\n\n"):
                phase.served += 1
            else:
                phase.count_unexpected("a stream without [DONE]")
        else:
            phase.count_unexpected(f"status {response.status}")


async def run(plan: OverloadPlan) -> dict[str, object]:
    """Both phases, one after the other."""
    async with aiohttp.ClientSession(
        f"http://127.0.0.1:{plan.port}",
        connector=aiohttp.TCPConnector(limit=0),
        timeout=aiohttp.ClientTimeout(total=60),
    ) as session:
        load = Load(plan, session)
        capacity = await load.closed_loop()
        rate = plan.factor * capacity.served / capacity.seconds
        overload = await load.open_loop(rate)
    return {"capacity": asdict(capacity), "overload": asdict(overload), "arrivals": rate}


if __name__ == "__main__":
    result = uvloop.run(run(OverloadPlan(**json.loads(sys.argv[1]))))
    print(json.dumps(result))

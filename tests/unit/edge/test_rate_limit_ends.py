"""However requests end, and however many at a time: a key's limits are as if each was alone."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from edge.http_server import EdgeServer
from headrace.common.v1 import errors_pb2
from headrace.rpc.errors import ServiceError
from tests.support.edge_server import (
    HELLO,
    RawClient,
    raw_client,
    request_head,
    running_edge,
    wait_until,
)
from tests.support.fake_backend import FakeBackend, FakeGeneration
from tests.support.keys import KEY, entry, write_keys

BEARER = {"Authorization": f"Bearer {KEY}"}
LOST = ServiceError(errors_pb2.ERROR_REASON_WORKER_LOST, "worker gone")
MOST_TOKENS = 900
PROMPT_TOKENS = 10
NUM_REQUESTS = 60
LIMIT = 100_000
LIMITS = f"tokens_per_minute = {LIMIT}\nrequests_per_minute = 1000\nconcurrent_requests = 40\n"
End = Callable[[FakeGeneration, RawClient], Awaitable[None]]


async def leaves(generation: FakeGeneration, client: RawClient) -> None:
    client.close()
    await generation.aborted.wait()


async def leaves_in_the_middle(generation: FakeGeneration, client: RawClient) -> None:
    generation.start()
    generation.text("x")
    await leaves(generation, client)


async def answers(generation: FakeGeneration, client: RawClient) -> None:
    generation.answer(["x"])
    assert (await client.response()).status == 200


async def fails(generation: FakeGeneration, client: RawClient) -> None:
    generation.fail(LOST)
    assert (await client.response()).status == 502


async def is_tried_again(generation: FakeGeneration, client: RawClient) -> None:
    generation.start()
    generation.attempt()
    await answers(generation, client)


async def half_closes(generation: FakeGeneration, client: RawClient) -> None:
    """Has said all it wants to say: for HTTP that is leaving."""
    client.writer.write_eof()
    await generation.aborted.wait()


ENDS: list[End] = [leaves, leaves_in_the_middle, answers, fails, is_tried_again, half_closes]


async def one_request(backend: FakeBackend, port: int, dice: random.Random) -> None:
    """Send a request, and leave it before it is taken up; or let it get as far as its answer."""
    body = {**HELLO, "max_tokens": MOST_TOKENS, "stream": dice.random() < 0.5, "n": 1}
    kind = dice.random()
    async with raw_client(port) as client:
        if kind < 0.1:
            client.send(request_head("POST", "/v1/chat/completions", "1.1", BEARER))
        elif kind < 0.2:
            client.post({**body, "temperature": 9}, headers=BEARER)
            assert (await client.response()).status in {400, 429}
        elif kind < 0.4:
            # Left while it waits for its turn, is rendered or generated.
            client.post(body, headers=BEARER)
            for _ in range(dice.randrange(20)):
                await asyncio.sleep(0)
        else:
            client.post(body, headers=BEARER)
            await client.reader.read(1)


async def play(backend: FakeBackend, dice: random.Random) -> None:
    """Answer what reaches the backend, in whichever way."""
    while True:
        generation = await backend.next_generation()
        if dice.random() < 0.5:
            generation.fail(LOST)
        else:
            generation.start()
            generation.text("x")
            if dice.random() < 0.5:
                generation.attempt()
                generation.start()
            generation.finish()
            generation.done()


async def remaining_tokens(server: EdgeServer) -> int:
    """What is left, as the caller is told."""
    async with raw_client(server.port) as client:
        client.get("/v1/models", headers=BEARER)
        return int((await client.response()).headers["x-ratelimit-remaining-tokens"])


def keys(tmp_path: Path, limits: str) -> dict[str, Path]:
    return {"file": write_keys(tmp_path / "keys.toml", entry(KEY, more=limits))}


@pytest.mark.parametrize("seed", range(3))
async def test_nothing_stays_held_in_a_crowd(tmp_path: Path, seed: int) -> None:
    """Requests that wait, fail, are left or are answered at the same time hold nothing after."""
    dice = random.Random(seed)
    backend = FakeBackend(texts=None)
    admission = {"max_concurrent_requests": 4, "max_queued_requests": 20}
    async with running_edge(backend, keys=keys(tmp_path, LIMITS), admission=admission) as server:
        player = asyncio.create_task(play(backend, dice))
        await asyncio.gather(
            *(one_request(backend, server.port, dice) for _ in range(NUM_REQUESTS))
        )
        await wait_until(lambda: not server._state._active)
        player.cancel()
        tokens = await remaining_tokens(server)

    # One reservation that is not given back is more than all that was used.
    assert NUM_REQUESTS * (PROMPT_TOKENS + 2) < MOST_TOKENS
    assert tokens > LIMIT - NUM_REQUESTS * (PROMPT_TOKENS + 2) - 1


@pytest.mark.parametrize("end", ENDS, ids=lambda end: end.__name__)
@pytest.mark.parametrize("stream", [False, True])
async def test_every_end_gives_its_place_and_its_rest_back(
    tmp_path: Path, end: End, *, stream: bool
) -> None:
    """As many requests after one another as have no room together: each is let in."""
    backend = FakeBackend(texts=None)
    limits = "tokens_per_minute = 1000\nconcurrent_requests = 1"
    body = {**HELLO, "max_tokens": 800, "stream": stream}
    async with running_edge(backend, keys=keys(tmp_path, limits)) as server:
        for _ in range(5):
            async with raw_client(server.port) as client:
                client.post(body, headers=BEARER)
                await end(await backend.next_generation(), client)
            await wait_until(lambda: not server._state._active)

    assert len(backend.generations) == 5

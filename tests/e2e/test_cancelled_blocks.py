"""Requests that are cancelled at any moment leave no block behind."""

import asyncio
import random

import pytest

from tests.e2e.conftest import POOL_TOKENS
from tests.support.chat_client import (
    WorkerProbe,
    ask,
    chat_body,
    connected,
    eventually,
    http_request,
)
from tests.support.stack import Service, Stack

pytestmark = pytest.mark.model

_AT_ONCE = 12
_LONGEST_SECONDS = 0.6


async def _cancelled(edge: Service, draw: random.Random, number: int) -> None:
    """A request of random length that is left after a random time."""
    words = "water " * draw.randrange(1, 400)
    shared = "The mill stands at the river. " * draw.randrange(0, 8)
    body = chat_body(f"{shared}{number} {words}", max_tokens=200, stream=draw.random() < 0.5)
    stay = draw.random() ** 2 * _LONGEST_SECONDS
    async with connected(edge) as connection:
        await connection.send(http_request(body))
        try:
            async with asyncio.timeout(stay):
                await connection.read_answer()
        except TimeoutError:
            pass


@pytest.mark.parametrize("requests", [20, pytest.param(200, marks=pytest.mark.slow)])
async def test_blocks_after_cancelled_requests(exact: Stack, requests: int) -> None:
    """After requests cancelled at random moments no block is used, and all can be used."""
    draw = random.Random(20)
    room = asyncio.Semaphore(_AT_ONCE)

    async def one(number: int) -> None:
        async with room:
            await _cancelled(exact.edge, random.Random(draw.random()), number)

    await asyncio.gather(*(one(number) for number in range(requests)))
    async with WorkerProbe(exact.workers[0]) as worker:
        await worker.until_running(0)
        # The step that computed the last cancelled request is over when a later one has ended.
        await ask(exact.edge, chat_body("The last word.", max_tokens=1))

        async def unused() -> bool:
            return (await worker.load()).referenced_blocks == 0

        await eventually(unused, "no block is used")
        load = await worker.load()
        before = load.prefilled_tokens
        prompt_tokens = await _fill_the_pool(exact.edge, load.total_blocks * 32)
        after = await worker.load()

    assert load.free_blocks + load.cached_blocks == load.total_blocks
    assert load.total_blocks * 32 == POOL_TOKENS
    assert after.referenced_blocks == 0
    assert after.prefilled_tokens - before <= prompt_tokens + 32


async def _fill_the_pool(edge: Service, pool_tokens: int) -> int:
    """Ask for what takes every block; returns the prompt's length in tokens.

    Asked twice, so that all but the last block of the prompt is computed once.
    """
    content = "pool " * (pool_tokens - 100)
    prompt = await ask(edge, chat_body(content, max_tokens=1))
    prompt_tokens: int = prompt.usage["prompt_tokens"]
    rest = pool_tokens - prompt_tokens
    whole = await ask(edge, chat_body(content, max_tokens=rest, ignore_eos=True))
    over = await ask(edge, chat_body(content, max_tokens=rest + 33, ignore_eos=True))

    assert whole.is_complete
    assert whole.usage["total_tokens"] == pool_tokens
    assert whole.finish_reason() == "length"
    assert over.error is not None
    assert over.error["code"] == "context_length_exceeded"
    return prompt_tokens

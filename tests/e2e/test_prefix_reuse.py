"""A prompt whose beginning was computed before is not computed again, and answers sooner."""

import time
from itertools import pairwise

import pytest

from tests.e2e.conftest import Measured
from tests.support.chat_client import (
    WorkerProbe,
    ask,
    chat_body,
    connected,
    http_request,
)
from tests.support.stack import Service, Stack

pytestmark = pytest.mark.model

_ROUNDS = 3
_MOST_OF_COLD = 0.1


async def _first_text_seconds(edge: Service, content: str) -> float:
    """From the request's last byte to the first text."""
    body = chat_body(content, max_tokens=8, min_tokens=8, temperature=0, stream=True)
    async with connected(edge) as connection:
        await connection.send(http_request(body))
        sent = time.monotonic()
        await connection.read_until(b'"delta":{"content":"')
        seconds = time.monotonic() - sent
        await connection.read_until(b"[DONE]")
    return seconds


@pytest.mark.slow
async def test_cached_prompt_answers_sooner(real: Stack, measured: Measured) -> None:
    """2,000 tokens of prompt: with the prefix cached the first token takes a tenth of the time."""
    cold, warm = [], []
    for number in range(_ROUNDS):
        content = f"Number {number}. " + "water " * 1965
        cold.append(await _first_text_seconds(real.edge, content))
        warm.append(await _first_text_seconds(real.edge, content))

    shown = [[round(each * 1000) for each in seconds] for seconds in (cold, warm)]
    measured("first token cold, warm, ms", shown)
    # The best of each: what else the machine does only ever adds.
    assert min(warm) <= _MOST_OF_COLD * min(cold), shown


async def test_only_the_rest_is_computed(real: Stack) -> None:
    """The tokens that are fed to the model are the prompt's without the cached ones."""
    content = "The lake is full. " * 120
    async with WorkerProbe(real.workers[0]) as worker:
        # Steps of earlier, cancelled requests are over when a later one has ended.
        await ask(real.edge, chat_body("First of all.", max_tokens=1))
        fed = [(await worker.load()).prefilled_tokens]
        usages = []
        for question in ("How deep?", "How cold?", "How cold?"):
            usages.append((await ask(real.edge, chat_body(content + question, max_tokens=2))).usage)
            fed.append((await worker.load()).prefilled_tokens)

    expected = [usage["prompt_tokens"] - usage["cached_tokens"] for usage in usages]
    assert [after - before for before, after in pairwise(fed)] == expected
    assert [usage["cached_tokens"] > 0 for usage in usages] == [False, True, True]

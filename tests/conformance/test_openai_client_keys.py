"""The official client behind keys and limits: what it raises, and what it tries again."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from pathlib import Path

import openai
import pytest

from tests.support.edge_server import running_edge
from tests.support.fake_backend import MODEL, FakeBackend
from tests.support.keys import KEY, OTHER_KEY, entry, write_keys

MESSAGES = [{"role": "user", "content": "hello"}]
Connect = Callable[..., AbstractAsyncContextManager[openai.AsyncOpenAI]]


@pytest.fixture
def connect(tmp_path: Path) -> Connect:
    """A client of an edge with one key, that has these limits."""

    @asynccontextmanager
    async def connect(
        key: str, limits: str = "", max_retries: int = 0
    ) -> AsyncIterator[openai.AsyncOpenAI]:
        file = write_keys(tmp_path / "keys.toml", entry(KEY, more=limits))
        async with (
            running_edge(FakeBackend(), keys={"file": file}) as edge,
            openai.AsyncOpenAI(
                base_url=f"http://127.0.0.1:{edge.port}/v1", api_key=key, max_retries=max_retries
            ) as client,
        ):
            yield client

    return connect


async def test_a_wrong_key_is_an_authentication_error(connect: Connect) -> None:
    """E7: with the code that clients look for."""
    async with connect(OTHER_KEY) as client:
        with pytest.raises(openai.AuthenticationError) as caught:
            await client.chat.completions.create(model=MODEL.name, messages=MESSAGES)
        with pytest.raises(openai.AuthenticationError):
            await client.models.list()

    assert (caught.value.code, caught.value.type) == ("invalid_api_key", "invalid_request_error")
    assert caught.value.request_id


async def test_a_limit_is_a_rate_limit_error_that_is_not_tried_again_in_vain(
    connect: Connect,
) -> None:
    """E7, E16: what can never fit is final, whatever retries the client has."""
    async with connect(KEY, "tokens_per_minute = 50", max_retries=5) as client:
        with pytest.raises(openai.RateLimitError) as caught:
            await client.chat.completions.create(model=MODEL.name, messages=MESSAGES, max_tokens=60)

    assert (caught.value.code, caught.value.type) == ("rate_limit_exceeded", "tokens")
    # The client counts what it has tried again.
    assert caught.value.request.headers["x-stainless-retry-count"] == "0"


async def test_the_client_waits_as_long_as_it_is_told_and_then_is_answered(
    connect: Connect,
) -> None:
    """E16: retry-after-ms is the bucket's real time, and one retry is enough."""
    async with connect(KEY, "requests_per_minute = 60", max_retries=1) as client:
        ask = partial(
            client.chat.completions.with_raw_response.create,
            model=MODEL.name,
            messages=MESSAGES,
            max_tokens=1,
        )
        began = time.monotonic()
        answers = list(await asyncio.gather(*(ask() for _ in range(60))))
        while not answers[-1].retries_taken:
            answers.append(await ask())
        seconds = time.monotonic() - began

    # A minute's worth at once, then one a second.
    room = 60 + seconds - len(answers)
    headers = answers[-1].headers
    assert room >= -0.01
    assert headers["x-ratelimit-limit-requests"] == "60"
    assert 0 <= int(headers["x-ratelimit-remaining-requests"]) <= room + 0.01

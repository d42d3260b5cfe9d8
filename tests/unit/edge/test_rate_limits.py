"""A key's limits over HTTP: refusals in OpenAI's words, and what every answer tells of them."""

import asyncio
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from edge.rate_limits import duration
from headrace.common.v1 import errors_pb2
from headrace.rpc.errors import ServiceError
from tests.support.edge_server import (
    HELLO,
    RawResponse,
    ask,
    raw_client,
    running_edge,
    wait_until,
)
from tests.support.fake_backend import MODEL, FakeBackend
from tests.support.keys import KEY, OTHER_KEY, entry, write_keys

BEARER = {"Authorization": f"Bearer {KEY}"}
OTHER = {"Authorization": f"Bearer {OTHER_KEY}"}
PROMPT_TOKENS = 10
"""What the fake backend renders every conversation to; its answers have two tokens an output."""
Keys = Callable[[str], dict[str, Any]]


@pytest.fixture
def keys(tmp_path: Path) -> Keys:
    """A key file whose first key has these limits, and whose second has none."""

    def keys(limits: str) -> dict[str, Any]:
        entries = (entry(KEY, more=limits), entry(OTHER_KEY, "globex"))
        return {"file": write_keys(tmp_path / "keys.toml", *entries)}

    return keys


def told(response: RawResponse, kind: str) -> tuple[int, int, str]:
    """Limit, remaining and reset as the headers have them."""
    headers: Mapping[str, str] = response.headers
    limit, remaining, reset = (
        headers[f"x-ratelimit-{name}-{kind}"] for name in ("limit", "remaining", "reset")
    )
    return int(limit), int(remaining), reset


@pytest.mark.wire("E7.rate_limit", "E16")
@pytest.mark.wire("E7.rate_limit")
async def test_requests_beyond_the_minutes_are_refused_with_the_time_to_wait(keys: Keys) -> None:
    """E7: 429 of type requests, code rate_limit_exceeded; the wait is the bucket's."""
    backend = FakeBackend()
    async with running_edge(backend, keys=keys("requests_per_minute = 2")) as server:
        first = await ask(server.port, HELLO, headers=BEARER)
        await ask(server.port, HELLO, headers=BEARER)
        refused = await ask(server.port, HELLO, headers=BEARER)
        other = await ask(server.port, HELLO, headers=OTHER)

    assert told(first, "requests")[:2] == (2, 1)
    assert refused.status == 429
    assert (refused.error["type"], refused.error["code"]) == ("requests", "rate_limit_exceeded")
    assert re.fullmatch(
        rf"Rate limit reached for {re.escape(MODEL.name)} in organization acme on requests per min "
        r"\(RPM\): Limit 2, Used 2, Requested 1\. Please try again in (29|30)(\.\d+)?s\.",
        refused.error["message"],
    )
    assert refused.headers["retry-after"] == "30"
    assert 29_000 < int(refused.headers["retry-after-ms"]) <= 30_000
    assert "x-should-retry" not in refused.headers
    assert told(refused, "requests")[1] == 0
    assert other.status == 200
    assert len(backend.generations) == 3


async def test_tokens_are_held_by_the_estimate_and_settled_by_the_usage(keys: Keys) -> None:
    """Prompt and max_tokens count until the end; a plain answer tells what is left then."""
    backend = FakeBackend()
    async with running_edge(backend, keys=keys("tokens_per_minute = 1000")) as server:
        first = await ask(server.port, {**HELLO, "max_tokens": 900}, headers=BEARER)
        second = await ask(server.port, {**HELLO, "max_tokens": 900, "n": 1}, headers=BEARER)

    assert told(first, "tokens")[:2] == (1000, 1000 - PROMPT_TOKENS - 2)
    assert second.status == 200
    assert told(second, "tokens")[1] < 1000 - PROMPT_TOKENS
    assert not any("requests" in name for name in first.headers if "ratelimit" in name)


async def test_a_stream_tells_what_is_left_after_its_reservation(keys: Keys) -> None:
    """Its headers go before its tokens: the estimate is taken, the usage not known."""
    async with running_edge(FakeBackend(), keys=keys("tokens_per_minute = 1000")) as server:
        body = {**HELLO, "max_tokens": 300, "n": 2, "stream": True}
        stream = await ask(server.port, body, headers=BEARER)
        after = await ask(server.port, {**HELLO, "max_tokens": 1}, headers=BEARER)

    remaining = told(stream, "tokens")[1]
    assert 1000 - PROMPT_TOKENS - 600 <= remaining <= 1000 - PROMPT_TOKENS - 600 + 20
    assert told(after, "tokens")[1] > 900


async def test_tokens_that_are_not_left_are_refused(keys: Keys) -> None:
    """E7: type tokens; two requests at a time may not hold more than the minute has."""
    backend = FakeBackend(texts=None)
    async with (
        running_edge(backend, keys=keys("tokens_per_minute = 1000")) as server,
        raw_client(server.port) as client,
    ):
        client.post({**HELLO, "max_tokens": 900}, headers=BEARER)
        running = await backend.next_generation()
        refused = await ask(server.port, {**HELLO, "max_tokens": 200}, headers=BEARER)
        small = ask(server.port, {**HELLO, "max_tokens": 20}, headers=BEARER)
        waiting = asyncio.create_task(small)
        (await backend.next_generation()).answer(["x"])
        running.answer(["x"])
        assert (await client.response()).status == 200
        assert (await waiting).status == 200

    assert refused.status == 429
    assert (refused.error["type"], refused.error["code"]) == ("tokens", "rate_limit_exceeded")
    assert "on tokens per min (TPM): Limit 1000, Used 9" in refused.error["message"]
    assert "Requested 210." in refused.error["message"]
    assert 1 <= int(refused.headers["retry-after"]) <= 8


async def test_what_can_never_fit_is_refused_for_good(keys: Keys) -> None:
    """No retry helps, and none is asked for."""
    async with running_edge(FakeBackend(), keys=keys("tokens_per_minute = 100")) as server:
        refused = await ask(server.port, {**HELLO, "max_tokens": 91}, headers=BEARER)
        fits = await ask(server.port, {**HELLO, "max_tokens": 90}, headers=BEARER)

    assert refused.status == 429
    assert refused.headers["x-should-retry"] == "false"
    assert "retry-after" not in refused.headers
    assert refused.error["message"].startswith(f"Request too large for {MODEL.name}")
    assert "Limit 100, Requested 101." in refused.error["message"]
    assert fits.status == 200


async def test_a_guess_is_never_too_large(keys: Keys) -> None:
    """Without max_tokens no more is held than a minute has; a prompt alone may be too large."""
    backend = FakeBackend()
    async with running_edge(backend, keys=keys("tokens_per_minute = 12")) as server:
        refused = await ask(server.port, {**HELLO, "n": 3}, headers=BEARER)
        answered = await ask(server.port, {**HELLO, "n": 2}, headers=BEARER)
        waits = await ask(server.port, HELLO, headers=BEARER)

    assert (refused.status, refused.headers["x-should-retry"]) == (429, "false")
    assert "Limit 12, Requested 13." in refused.error["message"]
    assert answered.status == 200
    assert waits.status == 429
    assert int(waits.headers["retry-after"]) > 60


async def test_without_max_tokens_a_share_is_held(keys: Keys) -> None:
    """The operator's, for each output; what is used beyond it is charged in the end."""
    backend = FakeBackend(texts=["x"] * 50)
    settings = {**keys("tokens_per_minute = 1000"), "unbounded_answer_tokens": 40}
    async with running_edge(backend, keys=settings) as server:
        stream = await ask(server.port, {**HELLO, "n": 2, "stream": True}, headers=BEARER)
        after = await ask(server.port, {**HELLO, "max_tokens": 1, "stream": True}, headers=BEARER)

    assert told(stream, "tokens")[1] == pytest.approx(1000 - PROMPT_TOKENS - 80, abs=10)
    used = PROMPT_TOKENS + 100
    assert told(after, "tokens")[1] == pytest.approx(1000 - used - PROMPT_TOKENS - 1, abs=20)


async def test_requests_at_a_time_are_bounded(keys: Keys) -> None:
    """A place is free again when an answer has ended, also one whose client left."""
    backend = FakeBackend(texts=None)
    async with running_edge(backend, keys=keys("concurrent_requests = 1")) as server:
        async with raw_client(server.port) as client:
            client.post(HELLO, headers=BEARER)
            running = await backend.next_generation()
            refused = await ask(server.port, HELLO, headers=BEARER)
        await running.aborted.wait()
        again = asyncio.create_task(ask(server.port, HELLO, headers=BEARER))
        (await backend.next_generation()).answer(["x"])
        answered = await again

    assert refused.status == 429
    assert refused.error["type"] == "requests"
    assert "on concurrent requests: Limit 1, Used 1" in refused.error["message"]
    assert refused.headers["retry-after"] == "1"
    assert answered.status == 200


async def test_a_client_that_leaves_pays_for_what_was_generated(keys: Keys) -> None:
    """Prompt and tokens until then; the rest of its estimate comes back."""
    backend = FakeBackend(texts=None)
    async with running_edge(backend, keys=keys("tokens_per_minute = 1000")) as server:
        async with raw_client(server.port) as client:
            client.post({**HELLO, "max_tokens": 900, "stream": True}, headers=BEARER)
            running = await backend.next_generation()
            running.start()
            for _ in range(30):
                running.text("x")
            await client.head()
        await running.aborted.wait()
        await wait_until(lambda: not server._state._active)
        after = asyncio.create_task(ask(server.port, {**HELLO, "max_tokens": 1}, headers=BEARER))
        (await backend.next_generation()).answer(["x"])
        response = await after

    used = PROMPT_TOKENS + 30 + PROMPT_TOKENS + 1
    assert told(response, "tokens")[1] == pytest.approx(1000 - used, abs=20)


async def test_a_request_that_fails_before_its_answer_gives_its_tokens_back(keys: Keys) -> None:
    """It counts as a request, and holds nothing."""
    lost = ServiceError(errors_pb2.ERROR_REASON_NO_WORKER_AVAILABLE, "nobody is there")
    backend = FakeBackend(generate_error=lost)
    limits = "tokens_per_minute = 1000\nrequests_per_minute = 5"
    async with running_edge(backend, keys=keys(limits)) as server:
        response = await ask(server.port, {**HELLO, "max_tokens": 900}, headers=BEARER)

    assert response.status == 503
    assert told(response, "tokens")[1] == 1000
    assert told(response, "requests")[1] == 4


async def test_every_answer_to_a_limited_caller_tells_its_limits(keys: Keys) -> None:
    """Models, errors and unknown paths too; nobody else is told anything."""
    limits = "tokens_per_minute = 1000\nrequests_per_minute = 5"
    async with running_edge(FakeBackend(), keys=keys(limits)) as server:
        for path in ("/v1/models", "/v1/models/none", "/nowhere", "/v1/chat/completions"):
            async with raw_client(server.port) as client:
                client.get(path, headers=BEARER)
                response = await client.response()
            assert told(response, "requests") == (5, 5, "0s")
            assert told(response, "tokens") == (1000, 1000, "0s")
        bad = await ask(server.port, {**HELLO, "n": 0}, headers=BEARER)
        other = await ask(server.port, HELLO, headers=OTHER)

    assert (bad.status, told(bad, "requests")[1]) == (400, 5)
    assert not any("ratelimit" in name for name in other.headers)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (0.0001, "1ms"),
        (0.12, "120ms"),
        (0.9999, "1s"),
        (1, "1s"),
        (1.2, "2s"),
        (59.5, "1m0s"),
        (360, "6m0s"),
        (3605, "1h0m5s"),
    ],
)
def test_durations_are_written_as_openai_writes_them(seconds: float, text: str) -> None:
    """E16: rounded up, so that whoever waits as long has waited long enough."""
    assert duration(seconds) == text

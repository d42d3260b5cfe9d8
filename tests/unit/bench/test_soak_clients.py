"""bench.soak's crowd: every end of a request is counted, and none is lost."""

import asyncio
import random
from collections.abc import Awaitable, Callable

import pytest

from bench.soak.clients import Crowd
from bench.soak.outcomes import Outcomes, UnexpectedError
from bench.soak.plan import SoakPlan

_PLAN = SoakPlan("tiny", clients=3, rate=1e6)


async def _run(ask: Callable[[random.Random], Awaitable[str]], outcomes: Outcomes) -> None:
    """Three clients ask until one has asked five times."""
    stop, asked = asyncio.Event(), 0

    async def counted(chance: random.Random) -> str:
        nonlocal asked
        asked += 1
        if asked >= 5:
            stop.set()
        return await ask(chance)

    await Crowd(_PLAN, {"any": (counted, 1)}, outcomes).run(stop)


async def test_ends_are_counted() -> None:
    """What a request says of its end is counted under its kind."""
    outcomes = Outcomes()

    async def answered(chance: random.Random) -> str:
        return "answered"

    await _run(answered, outcomes)

    assert outcomes.of("answered") == outcomes.total >= 5
    assert outcomes.unexpected == []


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (UnexpectedError("HTTP 500"), "any: HTTP 500"),
        (ConnectionResetError("peer"), "any: ConnectionResetError: peer"),
        (TimeoutError(), "any: timed out"),
        (AssertionError("of its own"), "client: it broke down: AssertionError('of its own')"),
    ],
)
async def test_failures_are_counted(error: Exception, words: str) -> None:
    """A failure of the server is unexpected; so is a client that breaks down itself."""
    outcomes = Outcomes()
    failing = iter([error])

    async def fail_once(chance: random.Random) -> str:
        raised = next(failing, None)
        if raised is not None:
            raise raised
        return "answered"

    await _run(fail_once, outcomes)

    assert outcomes.unexpected == [words]
    assert outcomes.of("UNEXPECTED") == 1


async def test_a_request_that_never_ends_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is cut when the load has long ended, and counted as unexpected."""
    monkeypatch.setattr("bench.soak.clients.REQUEST_SECONDS", 0.05)
    outcomes = Outcomes()

    async def hang(chance: random.Random) -> str:
        await asyncio.Event().wait()
        return "answered"

    await _run(hang, outcomes)

    assert outcomes.of("UNEXPECTED") == outcomes.total >= 5
    assert set(outcomes.unexpected) == {"any: not ended after 0.05 s"}

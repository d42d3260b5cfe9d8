"""The loop's lag, measured by what was due."""

import asyncio
import time

from headrace.telemetry.loop_lag import watched_loop


async def test_stuck_loop_shows() -> None:
    """A loop that is held up for a while is told as late by about as much."""
    seen: asyncio.Queue[float] = asyncio.Queue()
    with watched_loop(seen.put_nowait, every=0.001):
        await seen.get()
        held_until = time.monotonic() + 0.05
        while time.monotonic() < held_until:
            pass
        while (lag := await seen.get()) < 0.04:
            pass
    assert lag < 5


async def test_ends() -> None:
    """After the end no probe is left, and nobody is told anything."""
    loop = asyncio.get_running_loop()
    seen: list[float] = []
    with watched_loop(seen.append, every=0.001):
        pass
    passed = loop.create_future()
    loop.call_later(0.005, passed.set_result, None)
    await passed
    assert seen == []


async def test_never_negative() -> None:
    """A timer that fires early is no lag."""
    seen: asyncio.Queue[float] = asyncio.Queue()
    with watched_loop(seen.put_nowait, every=0.0005):
        lags = [await seen.get() for _ in range(20)]
    assert min(lags) >= 0

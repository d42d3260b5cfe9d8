"""A name that is looked up again and again."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import structlog

from headrace.client.name_watch import MAX_ADDRESSES, NameWatch
from headrace.client.resolver import PeerName
from tests.support.edge_server import wait_until
from tests.support.scripted_resolver import ScriptedResolver

NAME = PeerName("workers", 50061)


@asynccontextmanager
async def watched(
    resolver: ScriptedResolver, told: list[Sequence[str]]
) -> AsyncIterator[NameWatch]:
    """A watch that runs."""
    watch = NameWatch(NAME, resolver.lookup, told.append)
    running = asyncio.create_task(watch.run())
    try:
        yield watch
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


def _events(logs: Sequence[object]) -> list[object]:
    return [line["event"] for line in logs if isinstance(line, dict)]


async def test_what_it_finds_is_told() -> None:
    """Each look-up's addresses are told, and those of the last one are known."""
    told: list[Sequence[str]] = []
    resolver = ScriptedResolver(workers=["a"])
    async with watched(resolver, told) as watch:
        await resolver.told()
        resolver.found["workers"] = ["a", "b"]
        await resolver.told()

        assert told[0] == ["a"]
        assert told[-1] == watch.found == ["a", "b"]
        assert watch.failures == 0


async def test_what_was_found_outlives_failures() -> None:
    """Errors and empty answers keep what there was; they are counted, and logged once."""
    told: list[Sequence[str]] = []
    resolver = ScriptedResolver(workers=["a"])
    with structlog.testing.capture_logs() as logs:
        async with watched(resolver, told) as watch:
            await resolver.told()
            resolver.found["workers"] = OSError("no name server")
            await resolver.told()
            resolver.found["workers"] = []
            await resolver.told()
            failures = watch.failures
            kept = watch.found
            resolver.found["workers"] = ["b"]
            await resolver.told()

            assert kept == ["a"]
            assert watch.found == ["b"]
            assert failures >= 2
            assert _events(logs) == ["name_not_found", "name_found_again"]
            assert logs[0]["problem"] == "no name server"
            assert logs[0]["kept"] == ["a"]


async def test_a_silent_name_server_is_asked_once() -> None:
    """A look-up without an answer counts as failed, is not repeated, and is taken when it comes."""
    told: list[Sequence[str]] = []
    resolver = ScriptedResolver(workers=["a"])
    resolver.answering.clear()
    async with watched(resolver, told) as watch:
        await wait_until(lambda: watch.failures > 2)
        asked = resolver.asked
        resolver.answering.set()
        await resolver.told()

        assert asked == 1
        assert watch.found == ["a"]


async def test_a_name_has_so_many_peers_at_most() -> None:
    """What is too much is left out and logged once; those that are known stay."""
    told: list[Sequence[str]] = []
    resolver = ScriptedResolver(workers=["z"])
    with structlog.testing.capture_logs() as logs:
        async with watched(resolver, told) as watch:
            await resolver.told()
            resolver.found["workers"] = [*(f"{n:04}" for n in range(MAX_ADDRESSES + 9)), "z"]
            await resolver.told()
            await resolver.told()

            assert len(watch.found) == MAX_ADDRESSES
            assert "z" in watch.found
            assert _events(logs) == ["name_has_too_many_addresses"]


async def test_nothing_of_it_is_left() -> None:
    """A watch that is ended amid a look-up leaves no task."""
    resolver = ScriptedResolver()
    resolver.answering.clear()
    async with watched(resolver, []):
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    await asyncio.sleep(0)

    assert len(asyncio.all_tasks()) == 1

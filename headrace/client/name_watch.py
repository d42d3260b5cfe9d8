"""One DNS name that is looked up again and again.

A look-up that fails, finds nothing or takes too long changes nothing: what was found before holds.
At most one is under way at any time, so that a server of names that is silent holds one thread.
"""

import asyncio
from collections.abc import Callable, Sequence

import structlog

from headrace.client.resolver import NameLookup, PeerName

_log = structlog.get_logger(__name__)

MAX_ADDRESSES = 256
"""Peers of one name: each costs a connection and its heartbeats. More are left out, and logged."""


class NameWatch:
    """Tells `on_found` what the name stands for after each look-up that found something."""

    def __init__(
        self, name: PeerName, lookup: NameLookup, on_found: Callable[[Sequence[str]], None]
    ) -> None:
        self.name = name
        self._lookup = lookup
        self._on_found = on_found
        self._pending: asyncio.Future[Sequence[str]] | None = None
        self._problem = ""
        self._is_full = False
        self.found: Sequence[str] = ()
        """What it stood for last; empty until it has been found once."""
        self.failures = 0
        """Look-ups that failed, found nothing or took too long."""

    async def run(self) -> None:
        """Look it up until cancelled."""
        try:
            while True:
                await self._look_up()
                await asyncio.sleep(self._lookup.every_seconds)
        finally:
            if self._pending is not None:
                self._pending.cancel()

    async def _look_up(self) -> None:
        if self._pending is None:
            self._pending = asyncio.ensure_future(self._lookup.resolver.addresses(self.name))
        await asyncio.wait([self._pending], timeout=self._lookup.limit_seconds)
        if not self._pending.done():
            self._fail(f"no answer within {self._lookup.limit_seconds:g} s")
            return
        answered, self._pending = self._pending, None
        try:
            found = answered.result()
        except (OSError, UnicodeError) as error:
            self._fail(str(error))
            return
        if found:
            self._find(found)
        else:
            self._fail("it has no address")

    def _fail(self, problem: str) -> None:
        self.failures += 1
        if not self._problem:
            _log.warning("name_not_found", host=self.name.host, problem=problem, kept=[*self.found])
        self._problem = problem

    def _find(self, found: Sequence[str]) -> None:
        if self._problem:
            self._problem = ""
            _log.info("name_found_again", host=self.name.host, addresses=len(found))
        if len(found) > MAX_ADDRESSES:
            found = self._bounded(found)
        else:
            self._is_full = False
        self.found = found
        self._on_found(found)

    def _bounded(self, found: Sequence[str]) -> Sequence[str]:
        """As many as may be: those that are known go first, so that none of them changes places."""
        if not self._is_full:
            _log.warning(
                "name_has_too_many_addresses",
                host=self.name.host,
                addresses=len(found),
                used=MAX_ADDRESSES,
            )
        self._is_full = True
        known = frozenset(self.found)
        return sorted(found, key=lambda address: address not in known)[:MAX_ADDRESSES]

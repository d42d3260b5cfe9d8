"""A resolver whose names stand for whatever the test says at the moment."""

import asyncio
from collections.abc import Sequence

from headrace.client.resolver import NameLookup, PeerName


class ScriptedResolver:
    """`found` has each host's addresses; an OSError is raised; without an entry there are none.

    Nothing is answered while `answering` is cleared.
    """

    def __init__(self, **found: Sequence[str] | OSError) -> None:
        self.found = found
        self.asked = 0
        self.answering = asyncio.Event()
        self.answering.set()
        self._asked = asyncio.Event()

    async def addresses(self, name: PeerName) -> Sequence[str]:
        """Part of Resolver."""
        self.asked += 1
        self._asked.set()
        await self.answering.wait()
        found = self.found.get(name.host, ())
        if isinstance(found, OSError):
            raise found
        return found

    async def told(self) -> None:
        """Return once what is found now has been answered and taken."""
        # The second question comes when the answer to the first one has been worked on.
        for _ in range(2):
            self._asked.clear()
            await self._asked.wait()

    @property
    def lookup(self) -> NameLookup:
        """Ask as fast as it goes."""
        return NameLookup(self, every_seconds=0.005, limit_seconds=0.05)

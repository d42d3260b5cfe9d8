"""The links to all peers of one kind: opened and closed as names gain and lose addresses.

An address is one link, whatever names it. A link whose address no name has any more takes nothing
new; it is closed when its stream has ended, for a service whose name has gone may be draining.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import structlog

from headrace.client.figures import LinkFigures, PeerFigures, link_sum, peer_figures
from headrace.client.link import Link
from headrace.client.name_watch import NameWatch
from headrace.client.resolver import NameLookup, PeerName, peer_name

_log = structlog.get_logger(__name__)

LinkT = TypeVar("LinkT", bound=Link[Any, Any])

OpenLink = Callable[[str, str | None], LinkT]
"""Makes the link to an address, host:port; the second is the host that a name called it."""


@dataclass(frozen=True, slots=True)
class _Links(Generic[LinkT]):
    """What is shown of all links; replaced as a whole, so that any thread may read it."""

    open: tuple[LinkT, ...]
    closed: tuple[LinkFigures, ...] = field(default=())
    """What the closed ones had counted, in one sum."""


class PeerLinks(Generic[LinkT]):
    """One link to each address of `addresses`, and to each that a name among them stands for."""

    def __init__(
        self, addresses: Sequence[str], open_link: OpenLink[LinkT], lookup: NameLookup
    ) -> None:
        self._open_link = open_link
        names = {address: peer_name(address) for address in dict.fromkeys(addresses)}
        self._fixed = [address for address, name in names.items() if name is None]
        self._watches = [
            NameWatch(name, lookup, self._on_found) for name in names.values() if name is not None
        ]
        self._names: dict[LinkT, PeerName | None] = {}
        self._tasks: dict[LinkT, asyncio.Task[None]] = {}
        self._watching: list[asyncio.Task[None]] = []
        self._links: _Links[LinkT] = _Links(tuple(self._opened(each, None) for each in self._fixed))
        self._closing: set[asyncio.Task[None]] = set()
        self.changed = asyncio.Event()
        """Set at the next change of the links, and then another one."""

    @property
    def open(self) -> tuple[LinkT, ...]:
        """All links, those that are being left among them."""
        return self._links.open

    @property
    def is_complete(self) -> bool:
        """Whether each name has been found."""
        return all(watch.found for watch in self._watches)

    @property
    def figures(self) -> PeerFigures:
        """What all links have counted since the start, closed ones too; on any thread."""
        links = self._links
        figures = peer_figures(link.figures for link in links.open)
        for closed in links.closed:
            figures.count(closed)
        figures.failed_lookups = sum(watch.failures for watch in self._watches)
        return figures

    def start(self) -> None:
        """Begin to connect, and to look names up."""
        for link in self.open:
            self._tasks[link] = asyncio.create_task(link.run())
        self._watching = [asyncio.create_task(watch.run()) for watch in self._watches]

    async def stop(self) -> None:
        """End every stream and close every channel."""
        tasks = [*self._watching, *self._tasks.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, *self._closing, return_exceptions=True)
        for link in self.open:
            await link.close()

    def _opened(self, address: str, name: PeerName | None) -> LinkT:
        link = self._open_link(address, None if name is None else name.host)
        self._names[link] = name
        return link

    def _on_found(self, _found: Sequence[str]) -> None:
        """A name stands for these, perhaps for the same as before: open, leave and close links."""
        wanted: dict[str, PeerName | None] = dict.fromkeys(self._fixed)
        for watch in self._watches:
            for address in watch.found:
                wanted.setdefault(address, watch.name)
        for link in self.open:
            if link.address in wanted:
                self._keep(link)
            else:
                self._leave(link)
        self._close_left()
        self._open_new(wanted)

    def _keep(self, link: LinkT) -> None:
        link.is_left = False
        if self._tasks[link].done():
            self._tasks[link] = asyncio.create_task(link.run())

    def _leave(self, link: LinkT) -> None:
        if not link.is_left:
            _log.info("peer_left_name", kind=link.kind, address=link.address)
        link.is_left = True
        if not link.is_connected:
            self._tasks[link].cancel()

    def _close_left(self) -> None:
        """Close the links that have ended, once there is one to whatever took their place.

        Until then they tell which models there are: a request for one has to wait, not to despair.
        Those that never connected tell nothing, and may be any number where nothing is found.
        """
        in_place = [link for link in self.open if link.is_connected and not link.is_left]
        replaced = {self._names[link] for link in in_place}
        ended = [
            link
            for link in self.open
            if link.is_left
            and self._tasks[link].done()
            and (self._names[link] in replaced or not link.is_known)
        ]
        if not ended:
            return
        kept = tuple(link for link in self.open if link not in ended)
        closed = (*self._links.closed, *(link.figures for link in ended))
        self._links = _Links(kept, (link_sum(closed),))
        for link in ended:
            del self._names[link], self._tasks[link]
            closing = asyncio.create_task(link.close())
            self._closing.add(closing)
            closing.add_done_callback(self._closing.discard)
        self._tell_change()

    def _open_new(self, wanted: dict[str, PeerName | None]) -> None:
        known = {link.address for link in self.open}
        opened = [
            self._opened(address, name) for address, name in wanted.items() if address not in known
        ]
        if not opened:
            return
        self._links = _Links((*self.open, *opened), self._links.closed)
        for link in opened:
            self._tasks[link] = asyncio.create_task(link.run())
        self._tell_change()

    def _tell_change(self) -> None:
        told, self.changed = self.changed, asyncio.Event()
        told.set()

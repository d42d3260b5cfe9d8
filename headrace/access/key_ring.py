"""The keys that are in force: looked up by hash, read again when their file changes.

A lookup compares no secrets: the key is hashed, and the hash is found in a dictionary or not, so
that time tells nothing about any key. A new file that is broken is named in the log and changes
nothing. What keys have used outlives a re-reading; a key that is removed is unknown at once, and
what it began may end.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import structlog

from headrace.access.caller import ANYBODY, Caller
from headrace.access.key_file import read_key_file
from headrace.access.keys import hash_key
from headrace.access.limits import Allowance
from headrace.access.settings import KeysSettings
from headrace.runtime.errors import StartError
from headrace.runtime.file_watch import FileWatch

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class KeyHolder:
    """A caller, and what is left of the key's bounds."""

    caller: Caller
    allowance: Allowance


def anybody() -> KeyHolder:
    """Every caller, where no keys are configured: nothing is bounded."""
    return KeyHolder(ANYBODY, Allowance(ANYBODY.limits, 0.0))


class KeyRing:
    """The keys of one file. `clock` gives monotonic seconds. Raises StartError for the first file.

    There is one allowance for each key of the file, so that their number is bounded by it.
    """

    def __init__(
        self,
        file: Path,
        clock: Callable[[], float] = time.monotonic,
        profiles: Collection[str] | None = None,
    ) -> None:
        """`profiles` are those that keys may name; None where none are looked at."""
        self.file = file
        self.clock = clock
        # Before the first reading: what changes during it is seen.
        self._watch = FileWatch([file])
        self._holders: dict[str, KeyHolder] = {}
        self._problem = ""
        self._is_unread = False
        self._profiles = profiles
        self._install(self._read())

    def __len__(self) -> int:
        return len(self._holders)

    def find(self, key: str) -> KeyHolder | None:
        """Who holds the key; None for a key that is not in the file."""
        return self._holders.get(hash_key(key))

    async def watch(self, every_seconds: float) -> None:
        """Look at the file again and again, until cancelled; reading leaves the loop free."""
        while True:
            await asyncio.sleep(every_seconds)
            await self.look()

    async def look(self) -> None:
        """Read the file if it has changed, and has not changed since the look before.

        The beginning of a file that is still being written may read well: keys would be missing in
        it, and the last one's limits.
        """
        if await asyncio.to_thread(self._watch.has_changed):
            self._is_unread = True
        elif self._is_unread or self._problem:
            # A repaired permission changes nothing that a watch sees: what failed is tried again.
            self._is_unread = False
            await self.reload()

    async def reload(self) -> None:
        """Read the file now."""
        try:
            callers = await asyncio.to_thread(self._read)
        except StartError as error:
            if str(error) != self._problem:
                self._problem = str(error)
                _log.error("key_file_refused", problem=self._problem, kept_keys=len(self))
            return
        self._problem = ""
        self._install(callers)
        _log.info("key_file_read", file=str(self.file), keys=len(self))

    def _read(self) -> Mapping[str, Caller]:
        callers = read_key_file(self.file)
        for caller in callers.values():
            if not (caller.profile is None or self._profiles is None):
                self._require_profile(caller.profile, caller.key_id)
        return callers

    def _require_profile(self, name: str, key_id: str | None) -> None:
        known = self._profiles or ()
        if name not in known:
            raise StartError(
                f"key file {self.file}, key {key_id}: there is no profile {name!r}; known are "
                f"{', '.join(sorted(known))}"
            )

    def _install(self, callers: Mapping[str, Caller]) -> None:
        now = self.clock()
        holders: dict[str, KeyHolder] = {}
        for digest, caller in callers.items():
            known = self._holders.get(digest)
            if known is None:
                holders[digest] = KeyHolder(caller, Allowance(caller.limits, now))
            else:
                known.allowance.change(caller.limits, now)
                holders[digest] = KeyHolder(caller, known.allowance)
        self._holders = holders


def open_key_ring(
    settings: KeysSettings, profiles: Collection[str] | None = None
) -> KeyRing | None:
    """The keys that the settings name; None without. Raises StartError for a file at fault."""
    return None if settings.file is None else KeyRing(settings.file, profiles=profiles)


@asynccontextmanager
async def watched(keys: KeyRing | None, settings: KeysSettings) -> AsyncIterator[None]:
    """Within, the keys follow their file."""
    if keys is None:
        yield
        return
    watching = asyncio.create_task(keys.watch(settings.check_seconds))
    try:
        yield
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)

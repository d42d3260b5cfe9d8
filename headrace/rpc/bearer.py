"""The bearer form of a key, in HTTP's Authorization header and in gRPC's metadata alike."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import structlog

from headrace.runtime.errors import StartError
from headrace.runtime.file_watch import FileWatch

AUTHORIZATION = "authorization"
Metadata: TypeAlias = tuple[tuple[str, str], ...]
_SCHEME = "bearer"
_CHECK_SECONDS = 1.0
_log = structlog.get_logger(__name__)


def bearer_key(value: str) -> str:
    """The key in an Authorization value; empty for none, and for another scheme."""
    scheme, _, key = value.strip().partition(" ")
    return key.strip() if scheme.lower() == _SCHEME else ""


def bearer_metadata(key: str) -> Metadata:
    """The metadata of a gRPC call with a key."""
    return ((AUTHORIZATION, f"Bearer {key}"),)


class OwnKey:
    """The key that a process shows to its peers, or none; its text is never in a repr."""

    def __init__(self, key: str | None = None) -> None:
        """Raises StartError for a key that metadata cannot carry."""
        self._metadata = () if key is None else bearer_metadata(_checked(key, "the API key"))

    def metadata(self) -> Metadata:
        """What a call that begins now carries."""
        return self._metadata


class OwnKeyFile(OwnKey):
    """A key in a file of its own, read again when it changes; checked at most once a second.

    A file that cannot be used later is named in the log, and the key stays. Raises StartError for
    one that cannot be used at first.
    """

    def __init__(self, file: Path, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._file = file
        self._clock = clock
        # Before the first reading: what changes during it is seen.
        self._watch = FileWatch([file])
        self._metadata = self._read()
        self._problem = ""
        self._next_check = clock() + _CHECK_SECONDS

    def metadata(self) -> Metadata:
        """What a call that begins now carries."""
        now = self._clock()
        if now >= self._next_check:
            self._next_check = now + _CHECK_SECONDS
            if self._watch.has_changed() or self._problem:
                self._reload()
        return self._metadata

    def _reload(self) -> None:
        try:
            self._metadata = self._read()
        except StartError as error:
            if str(error) != self._problem:
                self._problem = str(error)
                _log.error("own_key_unusable", problem=self._problem, kept="the key of before")
        else:
            self._problem = ""
            _log.info("own_key_read", file=str(self._file))

    def _read(self) -> Metadata:
        name = f"API key file {self._file}"
        try:
            text = self._file.read_text(encoding="utf-8")
        except OSError as error:
            raise StartError(f"{name} cannot be read: {error.strerror}") from error
        except UnicodeDecodeError:
            raise StartError(f"{name} is not UTF-8") from None
        return bearer_metadata(_checked(text.strip(), name))


def _checked(key: str, name: str) -> str:
    """The key, if metadata can carry it: visible ASCII, in one line."""
    if not key:
        raise StartError(f"{name} is empty")
    if not all("!" <= character <= "~" for character in key):
        raise StartError(f"{name} holds more than one line of visible ASCII characters")
    return key

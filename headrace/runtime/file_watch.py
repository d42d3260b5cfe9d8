"""Files that are read again when they change: keys, certificates.

Looks at the files' status instead of asking the kernel for events: mounted secrets are replaced by
moving a symbolic link two folders up, which such events miss.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TypeAlias

_Status: TypeAlias = tuple[int, int, int] | None


class FileWatch:
    """Tells whether any of some files has changed since it last said so."""

    def __init__(self, files: Sequence[Path]) -> None:
        self._files = tuple(files)
        self._seen = self._statuses()

    def has_changed(self) -> bool:
        """Whether a file was replaced, written, made or removed since the last call.

        Costs a stat a file: call it once in a while, not once a request.
        """
        now = self._statuses()
        changed = now != self._seen
        self._seen = now
        return changed

    def _statuses(self) -> tuple[_Status, ...]:
        return tuple(_status(file) for file in self._files)


def _status(file: Path) -> _Status:
    """What changes with the file; None where there is none."""
    try:
        status = file.stat()
    except OSError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns

"""Blocks of lines written by a thread of its own: a reader that is slow holds up nobody else.

The file is unbuffered. A buffer's lock, held by a thread that is stuck in a write, would keep the
interpreter from ending.
"""

import queue
import select
import threading
from io import RawIOBase

_MAX_WAITING = 256
_LAST_WORDS_SECONDS = 2.0


class TracePrinter:
    """Writes what it is given, in order; what the file does not take in time is counted."""

    def __init__(
        self, file: RawIOBase, *, encoding: str = "utf-8", max_waiting: int = _MAX_WAITING
    ) -> None:
        self._file = file
        self._encoding = encoding
        self._waiting: queue.Queue[str | None] = queue.Queue(max_waiting)
        self._lost = 0
        self._thread = threading.Thread(target=self._write_all, name="traces", daemon=True)
        self._thread.start()

    def put(self, text: str) -> None:
        """Have it written; never waits."""
        try:
            self._waiting.put_nowait(self._note() + text)
        except queue.Full:
            self._lost += 1
        else:
            self._lost = 0

    def close(self, seconds: float = _LAST_WORDS_SECONDS) -> bool:
        """Write what waits, for so long at most; returns whether all was written."""
        try:
            self._waiting.put(None, timeout=seconds)
        except queue.Full:
            return False
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def _note(self) -> str:
        return f"({self._lost} not shown: the output is too slow)\n" if self._lost else ""

    def _write_all(self) -> None:
        while (text := self._waiting.get()) is not None:
            try:
                self._write(text.encode(self._encoding, "replace"))
            except (OSError, ValueError):
                # Whoever read it has left: serving goes on, and what follows waits in vain.
                return

    def _write(self, rest: bytes) -> None:
        while rest:
            written = self._file.write(rest)
            if written is None:
                # Somebody has made the terminal non-blocking, for all who share it.
                select.select((), (self._file,), ())
            else:
                rest = rest[written:]

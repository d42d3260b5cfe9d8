"""Blocks of lines written by a thread of its own: a reader that is slow holds up nobody else."""

import queue
import threading
from typing import TextIO

_MAX_WAITING = 256
_LAST_WORDS_SECONDS = 2.0


class TracePrinter:
    """Writes what it is given, in order; what the stream does not take in time is counted."""

    def __init__(self, stream: TextIO, *, max_waiting: int = _MAX_WAITING) -> None:
        self._stream = stream
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
                self._stream.write(text)
                self._stream.flush()
            except (OSError, ValueError):
                # Whoever read it has left: serving goes on, and what follows waits in vain.
                return

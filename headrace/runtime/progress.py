"""Progress lines for a person who waits: one changing line on a terminal, else a line at times.

Everything goes to stderr; stdout belongs to what a command answers.
"""

import sys
import time
from typing import TextIO

_LINE_SECONDS = 5.0
_REDRAW_SECONDS = 0.5
_ERASE_LINE = "\r\x1b[K"


class Progress:
    """One step at a time: `begin`, any number of `tick`s, `end`. Not for use by several threads."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stderr
        self._redraws = self._stream.isatty()
        self._title = ""
        self._began = self._shown = 0.0

    def say(self, line: str) -> None:
        """Write one line of its own."""
        self._write(line + "\n")

    def begin(self, title: str) -> None:
        """Announce a step; the title says what is being done and how large it is."""
        self._title = title
        self._began = self._shown = time.monotonic()
        self._write(f"{title} …" if self._redraws else f"{title} …\n")

    def tick(self, detail: str = "") -> None:
        """Show that the step goes on, at most every half second (every five without a terminal)."""
        now = time.monotonic()
        if now - self._shown < (_REDRAW_SECONDS if self._redraws else _LINE_SECONDS):
            return
        self._shown = now
        line = f"{self._title} … {now - self._began:.0f} s{', ' if detail else ''}{detail}"
        self._write(_ERASE_LINE + line if self._redraws else line + "\n")

    def end(self, detail: str = "") -> None:
        """Close the step with the time that it took."""
        took = f"{time.monotonic() - self._began:.1f} s"
        line = f"{self._title}: {took}{', ' if detail else ''}{detail}\n"
        self._write(_ERASE_LINE + line if self._redraws else line)

    def _write(self, text: str) -> None:
        self._stream.write(text)
        self._stream.flush()

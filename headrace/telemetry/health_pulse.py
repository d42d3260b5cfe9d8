"""Signs of life of the process on the health port, for the thread that keeps it: bytes in a pipe.

Neither end ever waits. Time in which nobody listened is no silence: whoever was stopped himself, or
had to wait for a processor, does not take that for the other's death.
"""

import os
from contextlib import suppress
from dataclasses import dataclass

_READ_BYTES = 4096


@dataclass(frozen=True, slots=True)
class Silence:
    """How long the process may say nothing, in seconds: from its start to its first sign, and then.

    It is started anew behind that. The first is long, since a busy machine may start it slowly.
    """

    first_seconds: float = 60.0
    seconds: float = 5.0


class PulseWriter:
    """The process's end."""

    def __init__(self, descriptor: int) -> None:
        os.set_blocking(descriptor, False)
        self._descriptor = descriptor

    def beat(self) -> None:
        """Say that the process runs; where nobody has read for long, there is no need to."""
        with suppress(BlockingIOError, BrokenPipeError):
            os.write(self._descriptor, b".")


class PulseReader:
    """The keeper's end; looks at most `look_seconds` apart count whole."""

    def __init__(self, descriptor: int, allowed: Silence, look_seconds: float, now: float) -> None:
        """Listening begins `now`, in seconds of a monotonic clock."""
        os.set_blocking(descriptor, False)
        self._descriptor = descriptor
        self._look_seconds = look_seconds
        self._looked_at = now
        self._allowed = allowed
        self._allowed_seconds = allowed.first_seconds
        self.silent_seconds = 0.0
        """For how long nothing was heard, as far as it was listened for."""

    def is_lost(self, now: float) -> bool:
        """Listen; whether nothing has been heard for too long."""
        listened = min(now - self._looked_at, self._look_seconds)
        self._looked_at = now
        if self._heard():
            self.silent_seconds = 0.0
            self._allowed_seconds = self._allowed.seconds
        else:
            self.silent_seconds += listened
        return self.silent_seconds > self._allowed_seconds

    def _heard(self) -> bool:
        has_heard = False
        with suppress(BlockingIOError):
            while os.read(self._descriptor, _READ_BYTES):
                has_heard = True
        return has_heard

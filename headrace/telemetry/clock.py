"""One clock for spans: the monotonic one, told as nanoseconds since 1970."""

import time


class SpanClock:
    """Converts seconds of `time.monotonic`, by which all times of spans are taken.

    Not of a loop's `time`, which uvloop updates once a turn. The offset is taken once: within a
    process spans never overlap for a step of the wall clock.
    """

    def __init__(self) -> None:
        self._offset_ns = time.time_ns() - time.monotonic_ns()

    def now_ns(self) -> int:
        """Now, in nanoseconds since 1970."""
        return self._offset_ns + time.monotonic_ns()

    def epoch_ns(self, monotonic_seconds: float) -> int:
        """A time of the monotonic clock, in nanoseconds since 1970."""
        return self._offset_ns + round(monotonic_seconds * 1e9)

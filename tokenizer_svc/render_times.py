"""Where the time of one rendering goes, measured where it is spent."""

from dataclasses import dataclass, field
from time import perf_counter
from typing import Self


class Stopwatch:
    """Adds up the seconds of the blocks that it is entered for, one at a time."""

    __slots__ = ("_began", "seconds")

    def __init__(self) -> None:
        self.seconds = 0.0
        self._began = 0.0

    def __enter__(self) -> Self:
        self._began = perf_counter()
        return self

    def __exit__(self, *_: object) -> None:
        self.seconds += perf_counter() - self._began


@dataclass(frozen=True, slots=True)
class RenderTimes:
    """The parts of a rendering; written on its thread, read when it is done."""

    template: Stopwatch = field(default_factory=Stopwatch)
    encoding: Stopwatch = field(default_factory=Stopwatch)
    guide: Stopwatch = field(default_factory=Stopwatch)

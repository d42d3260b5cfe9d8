"""Signs of life: what counts as silence, and that neither end waits."""

import os
from collections.abc import Iterator

import pytest

from headrace.telemetry.health_pulse import PulseReader, PulseWriter, Silence

LOOK_SECONDS = 0.5


class Pipe:
    """Both ends, with a clock of the test's own."""

    def __init__(self, allowed: Silence) -> None:
        self.reading_end, self.writing_end = os.pipe()
        self.writer = PulseWriter(self.writing_end)
        self.reader = PulseReader(self.reading_end, allowed, LOOK_SECONDS, 0.0)
        self._now = 0.0

    def looks(self, number: int, seconds: float = LOOK_SECONDS) -> list[bool]:
        """So many looks in a row."""
        found = []
        for _ in range(number):
            self._now += seconds
            found.append(self.reader.is_lost(self._now))
        return found


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    """Two seconds for a beginning, and one for the rest."""
    pipe = Pipe(Silence(first_seconds=2.0, seconds=1.0))
    yield pipe
    os.close(pipe.reading_end)


def test_whoever_has_never_spoken_has_longer(pipe: Pipe) -> None:
    """The first sign may be late; from then on silence is shorter."""
    assert pipe.looks(4) == [False] * 4
    pipe.writer.beat()
    assert pipe.looks(4) == [False, False, False, True]
    assert pipe.reader.silent_seconds == 1.5
    os.close(pipe.writing_end)


def test_one_that_never_speaks_is_lost(pipe: Pipe) -> None:
    """Behind the first time as well; an end that is closed says nothing either."""
    os.close(pipe.writing_end)

    assert pipe.looks(5) == [False] * 4 + [True]


def test_a_sign_ends_the_silence(pipe: Pipe) -> None:
    """However many there were, they are heard at once."""
    pipe.writer.beat()
    for _ in range(3):
        assert pipe.looks(2) == [False, False]
        pipe.writer.beat()
        pipe.writer.beat()
    assert pipe.looks(1) == [False]
    assert pipe.reader.silent_seconds == 0.0
    os.close(pipe.writing_end)


def test_time_in_which_nobody_listened_is_no_silence(pipe: Pipe) -> None:
    """A keeper that was stopped for an hour finds no sign of it, and does not judge by that."""
    pipe.writer.beat()
    assert pipe.looks(1) == [False]
    assert pipe.looks(2, seconds=3600) == [False, False]
    assert pipe.looks(1) == [True]
    os.close(pipe.writing_end)


def test_a_writer_never_waits(pipe: Pipe) -> None:
    """Neither where nobody reads, nor where nobody will."""
    for _ in range(2**17):
        pipe.writer.beat()
    assert pipe.looks(1) == [False]
    os.close(pipe.reading_end)
    pipe.writer.beat()
    pipe.reading_end = pipe.writing_end

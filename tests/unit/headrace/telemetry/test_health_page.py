import mmap
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from headrace.telemetry.health_page import (
    FIGURES_ROOM,
    Figures,
    HealthPage,
    Phase,
    Record,
    Words,
)
from tests.support.health_pages import SECOND
from tests.support.stack import ROOT

NOW = 7 * SECOND


@pytest.fixture
def page() -> Iterator[HealthPage]:
    page = HealthPage.create()
    yield page
    page.close()


def test_nothing_is_told_on_a_new_page(page: HealthPage) -> None:
    """A reader can tell what was never told from what is zero."""
    assert (page.beat_ns(), page.words(), page.figures()) == (None, None, None)


def test_what_is_told_is_read(page: HealthPage) -> None:
    """Beat, words and figures come back as they were told, the latest ones."""
    words = Words(Phase.SERVING, 3, "no model has a worker … yet")
    page.tell_beat(NOW - 1)
    page.tell_beat(NOW)
    page.tell_words(NOW, Words(Phase.STARTING, 1, "x"))
    page.tell_words(NOW, words)
    page.tell_figures(NOW, b"longer than the next\n")
    page.tell_figures(NOW, b"a 1\n")

    assert (page.beat_ns(), page.words()) == (NOW, words)
    assert page.figures() == Figures(NOW, b"a 1\n", 0)


def test_another_process_reads_it(page: HealthPage) -> None:
    """An inherited descriptor is all that a reader needs; it cannot write."""
    page.tell_words(NOW, Words(Phase.DRAINING, 3, "draining"))
    program = (
        "import sys; from headrace.telemetry.health_page import HealthPage as Page\n"
        "page = Page.attach(int(sys.argv[1])); print(page.words().problem)\n"
        "try: page.tell_beat(1)\n"
        "except TypeError: print('read only')"
    )
    command = [sys.executable, "-c", program, str(page.descriptor)]
    told = subprocess.run(
        command, pass_fds=[page.descriptor], cwd=ROOT, capture_output=True, text=True, check=True
    )

    assert told.stdout.split() == ["draining", "read", "only"]


@pytest.mark.parametrize("position", range(20))
def test_a_record_that_is_half_written_is_not_read(position: int) -> None:
    """Whichever byte still is of what was there before, the reader takes nothing."""
    memory = mmap.mmap(-1, 64)
    record = Record(memory, 0, 32)
    record.write(0x0101010101010101, b"\x01" * 4)
    before = memory[position : position + 1]
    record.write(0x0202020202020202, b"\x02" * 4)
    changed = memory[position : position + 1] != before
    memory[position : position + 1] = before

    assert (record.read() is None) == changed


def test_too_long_a_payload_is_refused_before_it_is_written() -> None:
    """Neighbours are never overwritten."""
    record = Record(mmap.mmap(-1, 64), 0, 4)
    record.write(1, b"four")

    with pytest.raises(ValueError, match="5 bytes"):
        record.write(2, b"fives")
    assert record.read() == (1, b"four")


def test_a_long_problem_has_room(page: HealthPage) -> None:
    """A problem is cut before it exceeds its record, whatever it is spelt in."""
    for letter in ("x", "\0", '"', "\N{PILE OF POO}"):
        page.tell_words(NOW, Words(Phase.SERVING, 1, letter * 100_000))
        words = page.words()
        assert words is not None
        assert words.problem == letter * len(words.problem) != ""


def test_figures_without_room_are_cut_between_families(page: HealthPage) -> None:
    """What is left is whole families, and how much is missing is told."""
    family = b"# HELP %c Text.\n# TYPE %c counter\n%c 1\n"
    first, second = family.replace(b"%c", b"a"), family.replace(b"%c", b"b")
    for room in (len(first) + 9, len(first + second) + 7):
        page.tell_figures(NOW, first + second, room)
        assert page.figures() == Figures(NOW, first, len(second))
    page.tell_figures(NOW, first + second, len(first + second) + 8)
    assert page.figures() == Figures(NOW, first + second, 0)
    page.tell_figures(NOW, first, len(first) + 7)
    assert page.figures() == Figures(NOW, first[: first.index(b"a 1")], len(b"a 1\n"))


def test_room_is_for_megabytes(page: HealthPage) -> None:
    """Ten megabytes of figures are handed over whole; a page that holds none takes no memory."""

    def taken_bytes() -> int:
        return os.fstat(page.descriptor).st_blocks * 512

    assert taken_bytes() < 64 * 1024
    text = b"# HELP a b\n" + b"a 1\n" * (10 * 2**18)
    page.tell_figures(NOW, text)
    figures = page.figures()

    assert figures is not None
    assert figures.text == text
    assert len(text) < FIGURES_ROOM
    assert taken_bytes() > len(text)


def test_close_gives_the_memory_back() -> None:
    """Neither a descriptor nor a mapping is left."""
    page = HealthPage.create()
    before = Path("/proc/self/maps").read_text(encoding="ascii").count("headrace-health")
    page.close()

    assert before == 1
    assert "headrace-health" not in Path("/proc/self/maps").read_text(encoding="ascii")
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(page.descriptor)

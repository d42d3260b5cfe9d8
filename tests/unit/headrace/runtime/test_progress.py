from io import StringIO

import pytest

from headrace.runtime import progress
from headrace.runtime.progress import Progress


class Terminal(StringIO):
    def isatty(self) -> bool:
        return True


def test_without_a_terminal_every_line_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    """A log file gets whole lines: the beginning, a sign of life, the end."""
    monkeypatch.setattr(progress, "_LINE_SECONDS", 0.0)
    stream = StringIO()
    steps = Progress(stream)
    steps.begin("Fetching")
    steps.tick("3 of 9 MB")
    steps.end()

    assert stream.getvalue() == "Fetching …\nFetching … 0 s, 3 of 9 MB\nFetching: 0.0 s\n"


def test_signs_of_life_are_rare() -> None:
    """Ticks between two intervals write nothing."""
    stream = StringIO()
    steps = Progress(stream)
    steps.begin("Fetching")
    steps.tick()

    assert stream.getvalue() == "Fetching …\n"


def test_on_a_terminal_one_line_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    """A terminal's line is erased and written anew until the step ends."""
    monkeypatch.setattr(progress, "_REDRAW_SECONDS", 0.0)
    stream = Terminal()
    steps = Progress(stream)
    steps.begin("Fetching")
    steps.tick()
    steps.end("9 MB")

    assert stream.getvalue().count("\n") == 1
    assert stream.getvalue().endswith("\r\x1b[KFetching: 0.0 s, 9 MB\n")

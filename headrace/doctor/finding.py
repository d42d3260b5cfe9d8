"""One finding of the doctor: a verdict, a line, and what to do about it."""

import textwrap
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, Literal

Verdict = Literal["ok", "warn", "fail", "skip"]

GIB = 1 << 30

_NAME_WIDTH = 14
_REMEDY_WIDTH = 100
_WORDS: dict[Verdict, str] = {"ok": "ok", "warn": "warn", "fail": "FAIL", "skip": "skip"}


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found of one thing. `fail`: it will not serve; `warn`: it may not serve well.

    `skip`: it was not looked at, and `text` says why. A `fail` always has a remedy.
    """

    name: str
    verdict: Verdict
    text: str
    remedy: str = ""

    def render(self) -> str:
        """One line, and below it the remedy, indented and wrapped."""
        line = f"{_WORDS[self.verdict]:<6}{self.name:<{_NAME_WIDTH}} {self.text}\n"
        if not self.remedy:
            return line
        # Words stay whole: many of them are there to be copied.
        return (
            line
            + textwrap.fill(
                f"remedy: {self.remedy}",
                width=_REMEDY_WIDTH,
                initial_indent=" " * 8,
                subsequent_indent=" " * 10,
                break_long_words=False,
                break_on_hyphens=False,
            )
            + "\n"
        )

    def as_json(self) -> dict[str, Any]:
        """The fields by name."""
        return asdict(self)


def ok(name: str, text: str) -> Finding:
    """All is well."""
    return Finding(name, "ok", text)


def warn(name: str, text: str, remedy: str = "") -> Finding:
    """Worth knowing; serving is possible."""
    return Finding(name, "warn", text, remedy)


def fail(name: str, text: str, remedy: str) -> Finding:
    """Serving is not possible."""
    return Finding(name, "fail", text, remedy)


def skip(name: str, text: str) -> Finding:
    """Not looked at."""
    return Finding(name, "skip", text)


def has_failed(findings: Iterable[Finding]) -> bool:
    """Any of them is a failure."""
    return any(finding.verdict == "fail" for finding in findings)


def shown_size(size_bytes: int) -> str:
    """A size for people: GiB with one decimal; below one, whole MiB."""
    if size_bytes < GIB:
        return f"{size_bytes >> 20} MiB"
    return f"{size_bytes / GIB:.1f} GiB"

"""How requests ended, counted by kind; what nobody expected is kept in words."""

from collections import Counter
from dataclasses import dataclass, field

_MOST_KEPT = 50


class UnexpectedError(Exception):
    """A request ended in a way in which none should; the message says how."""


@dataclass
class Outcomes:
    """Counts by (kind of request, how it ended)."""

    counts: Counter[tuple[str, str]] = field(default_factory=Counter)
    unexpected: list[str] = field(default_factory=list)

    def expected(self, kind: str, how: str) -> None:
        """One ended as it may."""
        self.counts[kind, how] += 1

    def fail(self, kind: str, message: str) -> None:
        """One ended as it may not."""
        self.counts[kind, "UNEXPECTED"] += 1
        if len(self.unexpected) < _MOST_KEPT:
            self.unexpected.append(f"{kind}: {message}")

    @property
    def total(self) -> int:
        """All that ended."""
        return self.counts.total()

    def of(self, how: str) -> int:
        """All that ended in one way."""
        return sum(count for (_, each), count in self.counts.items() if each == how)

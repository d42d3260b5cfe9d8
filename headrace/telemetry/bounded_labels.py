"""A label whose values others choose, such as models' names: so many, the rest is `other`."""

from typing import Final

OTHER: Final = "other"


class BoundedLabels:
    """The first `limit` values keep their names, for the process's life.

    Each value of a label is a series that never goes away: without a bound whoever chooses values
    fills the memory, of the service and of who scrapes it.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._known: set[str] = set()

    def bounded(self, value: str) -> str:
        """The value itself, or `other`."""
        known = self._known
        if value in known:
            return value
        if len(known) >= self._limit:
            return OTHER
        known.add(value)
        return value

"""How much memory all request bodies together may take until their prompts are rendered.

Afterwards a prompt is bounded by the model's context. The first bytes of each body are not counted:
small requests are never refused for the sake of large ones.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from headrace.common.v1 import errors_pb2
from headrace.rpc.errors import ServiceError

UNCOUNTED_BYTES = 64 * 1024


class BodyShare:
    """What one body takes of the budget."""

    def __init__(self, budget: "BodyBudget") -> None:
        self._budget = budget
        self._size = 0

    def add(self, num_bytes: int) -> None:
        """So many more bytes have arrived. Raises ServiceError: overloaded."""
        before = max(0, self._size - UNCOUNTED_BYTES)
        self._size += num_bytes
        self._budget.take(max(0, self._size - UNCOUNTED_BYTES) - before)

    def give_back(self) -> None:
        """The body is no longer needed; a second time has no effect."""
        self._budget.in_flight -= max(0, self._size - UNCOUNTED_BYTES)
        self._size = 0


class BodyBudget:
    """The sum over all requests, at most `max_bytes`."""

    def __init__(self, max_bytes: int, retry_after_seconds: float) -> None:
        self._max_bytes = max_bytes
        self._retry_after_seconds = retry_after_seconds
        self.in_flight = 0
        """Counted bytes now."""

    @contextmanager
    def share(self) -> Iterator[BodyShare]:
        """One body's share, given back at the end at the latest."""
        share = BodyShare(self)
        try:
            yield share
        finally:
            share.give_back()

    def take(self, num_bytes: int) -> None:
        """Count bytes; those that do not fit are counted too, until their share is given back."""
        self.in_flight += num_bytes
        if num_bytes and self.in_flight > self._max_bytes:
            raise ServiceError(
                errors_pb2.ERROR_REASON_OVERLOADED,
                "The server is overloaded: the bodies of all requests together are larger than "
                f"{self._max_bytes} bytes. Please try again later.",
                retry_after_seconds=self._retry_after_seconds,
            )

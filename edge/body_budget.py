"""How much memory all request bodies together may take until their prompts are rendered.

Afterwards a prompt is bounded by the model's context. The first bytes of each body are not counted:
small requests are never refused for the sake of large ones. Several bodies of one tenant have half
of the memory at most: keys are limited once a body is there, and others must be able to send one.
"""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from headrace.common.v1 import errors_pb2
from headrace.rpc.errors import ServiceError

UNCOUNTED_BYTES = 64 * 1024


class BodyShare:
    """What one body takes of the budget."""

    def __init__(self, budget: "BodyBudget", tenant: str) -> None:
        self._budget = budget
        self._size = 0
        self.tenant = tenant

    @property
    def counted_bytes(self) -> int:
        """What is counted of it."""
        return max(0, self._size - UNCOUNTED_BYTES)

    def add(self, num_bytes: int) -> None:
        """So many more bytes have arrived. Raises ServiceError: overloaded."""
        before = self.counted_bytes
        self._size += num_bytes
        self._budget.take(self, self.counted_bytes - before)

    def give_back(self) -> None:
        """The body is no longer needed; a second time has no effect."""
        self._budget.put_back(self)
        self._size = 0


class BodyBudget:
    """The sum over all requests, at most `max_bytes`."""

    def __init__(self, max_bytes: int, retry_after_seconds: float) -> None:
        self._max_bytes = max_bytes
        self._retry_after_seconds = retry_after_seconds
        self.in_flight = 0
        """Counted bytes now."""
        self._by_tenant: Counter[str] = Counter()

    @contextmanager
    def share(self, tenant: str = "") -> Iterator[BodyShare]:
        """One body's share, given back at the end at the latest; `tenant` empty is everybody."""
        share = BodyShare(self, tenant)
        try:
            yield share
        finally:
            share.give_back()

    def take(self, share: BodyShare, num_bytes: int) -> None:
        """Count bytes; those that do not fit are counted too, until their share is given back."""
        if not num_bytes:
            return
        self.in_flight += num_bytes
        self._by_tenant[share.tenant] += num_bytes
        if self.in_flight > self._max_bytes:
            raise self._overloaded("all requests", self._max_bytes)
        own = self._by_tenant[share.tenant]
        if share.tenant and own > self._max_bytes // 2 and own > share.counted_bytes:
            raise self._overloaded("your requests", self._max_bytes // 2)

    def put_back(self, share: BodyShare) -> None:
        """Count a share's bytes no more."""
        self.in_flight -= share.counted_bytes
        self._by_tenant[share.tenant] -= share.counted_bytes
        if not self._by_tenant[share.tenant]:
            del self._by_tenant[share.tenant]

    def _overloaded(self, whose: str, most: int) -> ServiceError:
        return ServiceError(
            errors_pb2.ERROR_REASON_OVERLOADED,
            f"The server is overloaded: the bodies of {whose} together are larger than {most} "
            "bytes. Please try again later.",
            retry_after_seconds=self._retry_after_seconds,
        )

"""What a key may still ask for: requests and tokens a minute, and requests at a time.

Pure: the clock is passed in, and a refusal is an exception with its numbers; its wording is
`headrace.access.refusals`'. A request enters once and its lease is closed once, however it ends.
"""

from dataclasses import dataclass
from typing import Literal

from headrace.access.bucket import Bucket, Hold
from headrace.access.caller import Limits

# Whoever waits as long as was said must not be refused for the last bit of a float.
_ROUNDING_SECONDS = 1e-6

Measure = Literal["requests", "tokens", "concurrent_requests"]


@dataclass(eq=False)
class LimitReachedError(Exception):
    """A bound would be exceeded. `wait_seconds` None: no wait makes the request fit."""

    measure: Measure
    limit: int
    used: int
    requested: int
    wait_seconds: float | None


@dataclass(frozen=True, slots=True)
class Quota:
    """A bound per minute as a caller is told it; `reset_seconds` until all of it is there again."""

    limit: int
    remaining: int
    reset_seconds: float


class Allowance:
    """One key's bounds and how much of them is used. Times are seconds of one monotonic clock."""

    def __init__(self, limits: Limits, now: float) -> None:
        self._limits = limits
        self._requests = _bucket(None, limits.requests_per_minute, now)
        self._tokens = _bucket(None, limits.tokens_per_minute, now)
        self._running = 0

    @property
    def num_running(self) -> int:
        """Leases that are open."""
        return self._running

    @property
    def counts_tokens(self) -> bool:
        """Whether tokens are bounded at all."""
        return self._tokens is not None

    def change(self, limits: Limits, now: float) -> None:
        """Take other bounds; what is used stays used."""
        self._limits = limits
        self._requests = _bucket(self._requests, limits.requests_per_minute, now)
        self._tokens = _bucket(self._tokens, limits.tokens_per_minute, now)

    def enter(self, now: float) -> "Lease":
        """Count a request. Raises LimitReachedError; then it is not counted."""
        most = self._limits.concurrent_requests
        if most is not None and self._running >= most:
            raise LimitReachedError("concurrent_requests", most, self._running, 1, 1.0)
        if self._requests is not None:
            _require(self._requests, "requests", 1, now)
            # Never given back: what is refused later has been worked on.
            self._requests.settle(self._requests.hold(1, now), 1, now)
        self._running += 1
        return Lease(self)

    def admit(self, tokens: int, now: float, *, least: int | None = None) -> "Lease":
        """Enter and reserve at once, as `Lease.reserve` does.

        Raises LimitReachedError; a request that was refused for its tokens has still been counted.
        """
        lease = self.enter(now)
        try:
            lease.reserve(tokens, now, least=least)
        except LimitReachedError:
            lease.close(0, now)
            raise
        return lease

    def quota(self, measure: Literal["requests", "tokens"], now: float) -> Quota | None:
        """What a caller is told; None where nothing is bounded."""
        bucket = self._requests if measure == "requests" else self._tokens
        if bucket is None:
            return None
        return Quota(
            bucket.bound,
            max(0, int(bucket.level(now))),
            bucket.seconds_until(bucket.bound, now),
        )

    def reserve(self, tokens: int, least: int, now: float) -> tuple[Bucket, Hold] | None:
        """For leases: hold tokens. Raises LimitReachedError."""
        bucket = self._tokens
        if bucket is None:
            return None
        if least > bucket.bound:
            used = bucket.bound - max(0, int(bucket.level(now)))
            raise LimitReachedError("tokens", bucket.bound, used, least, None)
        tokens = min(tokens, bucket.bound)
        # Where nothing is asked for yet, the bucket must at least not be empty.
        _require(bucket, "tokens", max(1, tokens), now)
        return bucket, bucket.hold(tokens, now)

    def leave(self) -> None:
        """For leases: one request less."""
        self._running -= 1


class Lease:
    """One request's part in its key's allowance."""

    def __init__(self, allowance: Allowance) -> None:
        self._allowance = allowance
        self._held: tuple[Bucket, Hold] | None = None
        self._is_open = True

    @property
    def counts_tokens(self) -> bool:
        """Whether anybody wants to know how many tokens are used."""
        return self._held is not None

    def reserve(self, tokens: int, now: float, *, least: int | None = None) -> None:
        """Hold what the request may use, once. Raises LimitReachedError; the lease stays open.

        Where `tokens` is a guess, `least` is what it uses at least: only that can be too much for
        any minute, and of a minute that is smaller than the guess all is held.
        """
        self._held = self._allowance.reserve(tokens, tokens if least is None else least, now)

    def close(self, used_tokens: int, now: float) -> None:
        """End the request, which used so many tokens; a second call does nothing."""
        if not self._is_open:
            return
        self._is_open = False
        self._allowance.leave()
        if self._held is not None:
            # The bucket of the reservation: the key's bounds may have changed since.
            bucket, hold = self._held
            bucket.settle(hold, used_tokens, now)


def _bucket(old: Bucket | None, bound: int | None, now: float) -> Bucket | None:
    if bound is None:
        return None
    if old is None:
        return Bucket(bound, now)
    old.resize(bound, now)
    return old


def _require(bucket: Bucket, measure: Measure, amount: int, now: float) -> None:
    wait = bucket.seconds_until(amount, now)
    if wait > _ROUNDING_SECONDS:
        used = bucket.bound - max(0, int(bucket.level(now)))
        raise LimitReachedError(measure, bucket.bound, used, amount, wait)

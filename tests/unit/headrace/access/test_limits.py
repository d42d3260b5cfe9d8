"""What a key may still ask for: requests, tokens, and requests at a time."""

import pytest

from headrace.access.caller import Caller, Limits
from headrace.access.limits import Allowance, LimitReachedError, Quota
from headrace.access.refusals import limit_reached
from headrace.rpc.errors import ServiceError

ACME = Caller(tenant="acme")


def refusal(allowance: Allowance, now: float, tokens: int | None = None) -> LimitReachedError:
    """What a request is refused by."""
    if tokens is None:
        with pytest.raises(LimitReachedError) as caught:
            allowance.enter(now)
        return caught.value
    lease = allowance.enter(now)
    with pytest.raises(LimitReachedError) as caught:
        lease.reserve(tokens, now)
    lease.close(0, now)
    return caught.value


def test_requests_are_refused_by_the_minute_until_the_bucket_has_one_again() -> None:
    """The wait is the real refill time, and waiting it is enough."""
    allowance = Allowance(Limits(requests_per_minute=3), 0.0)
    for _ in range(3):
        allowance.enter(0.0).close(0, 0.0)
    error = refusal(allowance, 5.0)

    assert (error.measure, error.limit, error.used, error.requested) == ("requests", 3, 3, 1)
    assert error.wait_seconds == pytest.approx(15)
    allowance.enter(20.0)


def test_a_refused_request_takes_nothing() -> None:
    """Whoever tries too often does not wait longer for it."""
    allowance = Allowance(Limits(requests_per_minute=1, concurrent_requests=1), 0.0)
    allowance.enter(0.0)
    for _ in range(5):
        refusal(allowance, 0.0)

    assert allowance.num_running == 1
    assert allowance.quota("requests", 0.0) == Quota(1, 0, 60.0)


def test_requests_at_a_time_are_free_again_when_one_ends() -> None:
    """A lease is one request's, and a second close changes nothing."""
    allowance = Allowance(Limits(concurrent_requests=2), 0.0)
    first, _ = allowance.enter(0.0), allowance.enter(0.0)
    error = refusal(allowance, 0.0)
    first.close(0, 1.0)
    first.close(0, 1.0)

    assert (error.measure, error.limit, error.used) == ("concurrent_requests", 2, 2)
    assert allowance.num_running == 1
    allowance.enter(1.0)
    assert refusal(allowance, 1.0).measure == "concurrent_requests"


@pytest.mark.parametrize(("used", "left"), [(10, 90), (0, 100), (130, 0)])
def test_tokens_are_held_and_then_settled(used: int, left: int) -> None:
    """In between the estimate counts; afterwards what was used."""
    allowance = Allowance(Limits(tokens_per_minute=100), 0.0)
    lease = allowance.enter(0.0)
    lease.reserve(60, 0.0)
    held = allowance.quota("tokens", 0.0)
    lease.close(used, 0.0)

    assert held == Quota(100, 40, pytest.approx(36))
    settled = allowance.quota("tokens", 0.0)
    assert settled is not None
    assert settled.remaining == left


def test_tokens_that_are_not_there_yet_are_refused_with_the_time_until_they_are() -> None:
    """The request that was refused holds nothing."""
    allowance = Allowance(Limits(tokens_per_minute=60), 0.0)
    allowance.enter(0.0).reserve(50, 0.0)
    error = refusal(allowance, 0.0, tokens=30)

    assert (error.measure, error.used, error.requested) == ("tokens", 50, 30)
    assert error.wait_seconds == pytest.approx(20)
    assert allowance.quota("tokens", 0.0) == Quota(60, 10, pytest.approx(50))


def test_more_than_a_minutes_tokens_never_fit() -> None:
    """No wait helps, and the refusal says that no retry does."""
    allowance = Allowance(Limits(tokens_per_minute=60), 0.0)
    error = refusal(allowance, 0.0, tokens=61)
    told = limit_reached(error, ACME, "m")

    assert error.wait_seconds is None
    assert told.is_final
    assert "Limit 60, Requested 61" in told.message


def test_what_is_charged_afterwards_must_find_something_left() -> None:
    """A request of unknown size is let in while the bucket is not empty, and then owed for."""
    allowance = Allowance(Limits(tokens_per_minute=60), 0.0)
    lease = allowance.enter(0.0)
    lease.reserve(0, 0.0)
    lease.close(90, 0.0)

    assert refusal(allowance, 0.0, tokens=0).wait_seconds == pytest.approx(31)


def test_without_limits_everything_passes() -> None:
    """There is nothing to tell a caller either."""
    allowance = Allowance(Limits(), 0.0)
    for _ in range(1000):
        allowance.enter(0.0).reserve(10**9, 0.0)

    assert allowance.quota("requests", 0.0) is None
    assert allowance.quota("tokens", 0.0) is None


def test_changed_limits_hold_at_once_and_forget_nothing() -> None:
    """Bounds that go away and come are taken as well; a lease of before settles where it held."""
    allowance = Allowance(Limits(requests_per_minute=2, tokens_per_minute=100), 0.0)
    lease = allowance.enter(0.0)
    lease.reserve(80, 0.0)
    allowance.change(Limits(requests_per_minute=3, concurrent_requests=1), 0.0)

    assert allowance.quota("requests", 0.0) == Quota(3, 2, pytest.approx(20))
    assert allowance.quota("tokens", 0.0) is None
    assert refusal(allowance, 0.0).measure == "concurrent_requests"
    lease.close(10, 0.0)
    allowance.enter(0.0)


@pytest.mark.parametrize(
    ("limits", "tokens", "kind", "said"),
    [
        (Limits(requests_per_minute=1), None, "requests", "requests per min (RPM): Limit 1, Used"),
        (Limits(tokens_per_minute=9), 9, "tokens", "tokens per min (TPM): Limit 9, Used 9, Req"),
        (Limits(concurrent_requests=1), None, "requests", "concurrent requests: Limit 1, Used 1"),
    ],
)
def test_the_wording_is_openais(limits: Limits, tokens: int | None, kind: str, said: str) -> None:
    """Model, tenant, bound, use, request and wait are named, and the type says which it was."""
    allowance = Allowance(limits, 0.0)
    allowance.enter(0.0).reserve(tokens or 0, 0.0)
    told: ServiceError = limit_reached(refusal(allowance, 0.0, tokens), ACME, "small")

    assert told.message.startswith(f"Rate limit reached for small in organization acme on {said}")
    assert (told.openai_type, told.is_final) == (kind, False)
    assert told.retry_after_seconds is not None

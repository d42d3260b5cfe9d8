"""A bound per minute: never more than it in any window, whatever is held and given back."""

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.access.bucket import Bucket, Hold

BOUND = 60


@dataclass
class Began:
    """A request that began, and what it used in the end."""

    at: float
    hold: Hold
    used: float


moves = st.lists(
    st.tuples(
        st.floats(0, 50),  # seconds that pass
        st.booleans(),  # another begins, or one ends
        st.integers(1, BOUND),  # what is held
        st.floats(0, 1),  # the part of it that is used
        st.integers(0, 1000),  # which one ends
    ),
    max_size=60,
)


@given(moves)
def test_no_window_sees_more_than_its_refill_and_one_bound(plays: list[tuple]) -> None:
    """Whichever requests begin between two moments, they use at most bound + refill together."""
    now, bucket = 0.0, Bucket(BOUND, 0.0)
    running: list[Began] = []
    began: list[Began] = []
    for seconds, begins, amount, part, which in plays:
        now += seconds
        if begins and bucket.level(now) >= amount:
            request = Began(now, bucket.hold(amount, now), amount * part)
            running.append(request)
            began.append(request)
        elif not begins and running:
            request = running.pop(which % len(running))
            bucket.settle(request.hold, request.used, now)

    for first, start in enumerate(began):
        used = 0.0
        for end in began[first:]:
            used += end.used
            assert used <= BOUND + BOUND * (end.at - start.at) / 60 + 1e-6


@given(moves)
def test_the_level_is_never_above_the_bound_and_what_is_unused_counts_for_nothing(
    plays: list[tuple],
) -> None:
    """Settled without use at once, a bucket is as it was; nothing raises it above its bound."""
    now, bucket = 0.0, Bucket(BOUND, 0.0)
    for seconds, stays, amount, part, _ in plays:
        now += seconds
        before = bucket.level(now)
        hold = bucket.hold(amount, now)
        if not stays:
            bucket.settle(hold, 0, now)
            assert bucket.level(now) == pytest.approx(before)
        else:
            bucket.settle(hold, amount * part, now)
            assert bucket.level(now) == pytest.approx(before - amount * part)

        assert bucket.level(now) <= BOUND


def test_what_is_not_used_comes_back_and_what_is_used_beyond_is_owed() -> None:
    """Settling goes both ways."""
    bucket = Bucket(BOUND, 0.0)
    less, more = bucket.hold(20, 0.0), bucket.hold(20, 0.0)
    bucket.settle(less, 5, 0.0)
    bucket.settle(more, 70, 0.0)

    assert bucket.level(0.0) == 60 - 5 - 70
    assert bucket.seconds_until(1, 0.0) == pytest.approx(16)


def test_a_hold_older_than_the_refilling_gives_nothing_back() -> None:
    """The minute's refill was there for others already: it is not there twice."""
    bucket = Bucket(BOUND, 0.0)
    old = bucket.hold(60, 0.0)
    new = bucket.hold(60, 60.0)
    bucket.settle(old, 0, 60.0)

    assert bucket.level(60.0) == 0
    bucket.settle(new, 0, 60.0)
    assert bucket.level(60.0) == 60


def test_holds_with_nothing_to_give_back_are_forgotten() -> None:
    """A thousand long requests cost nothing on every refill."""
    bucket = Bucket(BOUND, 0.0)
    old = [bucket.hold(0.01, 0.0) for _ in range(1000)]
    bucket.level(120.0)

    assert not bucket._holds
    for hold in old:
        bucket.settle(hold, 0.01, 120.0)
    assert bucket.level(120.0) == BOUND


def test_waiting_as_long_as_is_said_is_enough() -> None:
    """The time comes from the bucket's own refilling."""
    bucket = Bucket(BOUND, 0.0)
    bucket.settle(bucket.hold(60, 0.0), 60, 0.0)
    wait = bucket.seconds_until(7, 0.0)

    assert wait == pytest.approx(7)
    assert bucket.level(wait) == pytest.approx(7)


def test_a_clock_that_stands_still_or_goes_back_refills_nothing() -> None:
    """Only time that passes counts."""
    bucket = Bucket(BOUND, 100.0)
    bucket.hold(10, 100.0)

    assert bucket.level(100.0) == 50
    assert bucket.level(40.0) == 50


@pytest.mark.parametrize(("bound", "left"), [(120, 80), (30, -10)])
def test_another_bound_keeps_what_was_taken(bound: int, left: int) -> None:
    """A key whose bound is changed has used what it has used."""
    bucket = Bucket(BOUND, 0.0)
    bucket.hold(40, 0.0)
    bucket.resize(bound, 0.0)

    assert bucket.level(0.0) == left

from headrace.runtime.back_off import BackOff


def test_the_first_time_is_free_and_then_it_takes_ever_longer() -> None:
    """Up to a bound."""
    back_off = BackOff(most_seconds=1.0)

    waits = [back_off.seconds_after(0.01) for _ in range(7)]
    assert waits == [0.0, 0.1, 0.2, 0.4, 0.8, 1.0, 1.0]


def test_what_ran_well_begins_anew() -> None:
    """A process that ends once a day is not made to wait."""
    back_off = BackOff(well_seconds=60)
    for _ in range(5):
        back_off.seconds_after(59)

    assert [back_off.seconds_after(61), back_off.seconds_after(1)] == [0.0, 0.1]

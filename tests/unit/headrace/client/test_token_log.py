"""What workers said of running outputs: kept a frame at a time, dropped with the oldest output."""

from headrace.client.token_log import TokenLog


def test_an_outputs_tokens_are_those_of_all_its_entries() -> None:
    """In their order, also where an output has several entries in a frame."""
    log = TokenLog()
    log.begin(1)
    log.begin(2)
    log.add([1, 2, 1], [2, 1, 1], [11, 12, 21, 13])
    log.begin(3)
    log.add([3, 1], [1, 1], [31, 14])

    assert [log.tokens_of(handle) for handle in (1, 2, 3)] == [[11, 12, 13, 14], [21], [31]]
    log.add([2], [1], [22])
    assert log.tokens_of(2) == [21, 22]


def test_what_is_over_is_not_known() -> None:
    """Of an output that ended, and of one that never was; with the last one all is dropped."""
    log = TokenLog()
    log.begin(1)
    log.add([1], [1], [11])
    log.begin(2)
    log.end(1)
    log.end(7)

    assert log.tokens_of(1) == log.tokens_of(2) == log.tokens_of(7) == []
    log.end(2)
    assert not log._frames
    log.add([2], [1], [21])
    assert not log._frames


def test_frames_in_front_of_the_oldest_output_are_dropped() -> None:
    """A stream of short outputs keeps few frames, whatever came before."""
    log = TokenLog()
    for handle in range(10_000):
        log.begin(handle)
        log.add([handle], [1], [handle])
        if handle >= 3:
            log.end(handle - 3)

    assert len(log._frames) < 80
    assert log.tokens_of(9_999) == [9_999]


def test_a_long_output_keeps_little_of_the_short_ones_beside_it() -> None:
    """Its own tokens stay known; of theirs no more than a bounded number of frames is kept."""
    log = TokenLog()
    log.begin(0)
    for handle in range(1, 5_001):
        log.begin(handle)
        log.add([handle, 0], [2, 1], [1, 2, handle])
        log.end(handle)

    assert len(log._frames) < 2_100
    assert len(log._gathered) == 1
    assert log.tokens_of(0) == [*range(1, 5_001)]
    log.end(0)
    assert not log._gathered

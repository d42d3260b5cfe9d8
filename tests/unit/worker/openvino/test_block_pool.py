"""The block pool: states add up, referenced blocks are safe, prefixes outlive continuations."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.engine.openvino.block_pool import BlockPool


def _digest(number: int) -> bytes:
    return number.to_bytes(16, "little")


def test_blocks_add_up() -> None:
    """A block is counted in exactly one state through its whole life."""
    pool = BlockPool(4)
    first, second = pool.allocate(2)
    pool.publish(first, _digest(1))

    held = (pool.free_blocks, pool.cached_blocks, pool.referenced_blocks)
    pool.release([first, second])
    released = (pool.free_blocks, pool.cached_blocks, pool.referenced_blocks)

    assert (held, released) == ((2, 0, 2), (3, 1, 0))


def test_find_stops_at_the_first_unknown_digest() -> None:
    """Only an unbroken beginning of the chain is found."""
    pool = BlockPool(4)
    blocks = pool.allocate(3)
    for block, number in zip(blocks, (1, 2, 4), strict=True):
        pool.publish(block, _digest(number))

    assert pool.find(map(_digest, (1, 2, 3, 4))) == blocks[:2]


def test_nothing_is_kept_where_prefixes_are_not() -> None:
    """A pool that keeps no prefixes finds no published block, and released ones are free."""
    pool = BlockPool(2, keeps_prefixes=False)
    blocks = pool.allocate(1)
    pool.publish(blocks[0], _digest(1))

    found = pool.find([_digest(1)])
    pool.release(blocks)

    assert found == []
    assert (pool.free_blocks, pool.cached_blocks) == (2, 0)


def test_the_end_of_a_prefix_is_taken_first() -> None:
    """When cached blocks must go, the last block of a released sequence goes before its first."""
    pool = BlockPool(3)
    blocks = pool.allocate(3)
    for number, block in enumerate(blocks):
        pool.publish(block, _digest(number))
    pool.release(blocks)

    taken = pool.allocate(1)

    assert taken == blocks[2:]
    assert pool.evictions == 1
    assert pool.find(map(_digest, range(3))) == blocks[:2]


def test_the_least_recently_used_prefix_is_taken_first() -> None:
    """Sharing and releasing a cached block again makes it the youngest."""
    pool = BlockPool(2)
    old, new = pool.allocate(2)
    pool.publish(old, _digest(1))
    pool.publish(new, _digest(2))
    pool.release([old])
    pool.release([new])
    pool.share([old])
    pool.release([old])

    assert pool.allocate(1) == [new]


def test_a_second_block_of_one_name_stays_private() -> None:
    """The first block of a digest keeps it; the other becomes free when released."""
    pool = BlockPool(2)
    first, second = pool.allocate(2)
    pool.publish(first, _digest(1))
    pool.publish(second, _digest(1))
    pool.release([second])

    assert pool.find([_digest(1)]) == [first]
    assert pool.free_blocks == 1


def test_more_than_available_is_refused_and_takes_nothing() -> None:
    """A request for more blocks than there are raises and leaves the pool as it was."""
    pool = BlockPool(2)

    with pytest.raises(ValueError, match="3 blocks asked for, 2 available"):
        pool.allocate(3)
    assert pool.free_blocks == 2


@given(st.integers(1, 12), st.lists(st.tuples(st.integers(0, 3), st.integers(0, 40)), max_size=80))
def test_any_history_keeps_the_counts_and_the_holders(
    total: int, history: list[tuple[int, int]]
) -> None:
    """Whatever is allocated, shared, published and released, no held block is handed out."""
    pool = BlockPool(total)
    holders: list[list[int]] = []
    for action, number in history:
        held = {block for blocks in holders for block in blocks}
        if action == 0 and number % 4 <= pool.available_blocks:
            taken = pool.allocate(number % 4)
            assert not held & set(taken)
            holders.append(taken)
        elif action == 1:
            found = pool.find(_digest(i) for i in range(number, number + 3))
            pool.share(found)
            holders.append(found)
        elif action == 2 and holders:
            for offset, block in enumerate(holders[number % len(holders)]):
                pool.publish(block, _digest(number + offset))
        elif action == 3 and holders:
            pool.release(holders.pop(number % len(holders)))

        referenced = len({block for blocks in holders for block in blocks})
        counts = (pool.free_blocks, pool.cached_blocks, pool.referenced_blocks)
        assert counts[2] == referenced
        assert sum(counts) == total

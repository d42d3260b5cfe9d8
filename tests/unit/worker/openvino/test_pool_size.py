"""The pool's size: as it is set, or what the memory leaves."""

import pytest
from structlog.testing import capture_logs

from headrace.rpc.errors import ServiceError
from worker.engine.openvino.memory import StepMemory, default_kv_cache_bytes, usable_memory_bytes
from worker.engine.openvino.pool_size import pool_blocks
from worker.engine.openvino.runner import KvLayout

_LAYOUT = KvLayout(block_size=32, block_bytes=1 << 10)
_STEP = StepMemory(fixed_bytes=1 << 20, row_bytes=1 << 10, max_rows=64)


def test_the_default_is_a_share_of_the_memory() -> None:
    """With much room the share decides."""
    share = default_kv_cache_bytes(usable_memory_bytes())

    assert pool_blocks(None, _LAYOUT, step=_STEP, taken_bytes=0) == share >> 10


def test_the_default_leaves_room_for_steps() -> None:
    """With little room left, pool, largest step and what is taken are the whole memory."""
    taken = usable_memory_bytes() - (4 << 20)
    with capture_logs() as lines:
        blocks = pool_blocks(None, _LAYOUT, step=_STEP, taken_bytes=taken)

    assert blocks << 10 == (4 << 20) - _STEP.bytes_beside(blocks)
    assert [line["event"] for line in lines] == ["kv_pool_sized"]


def test_a_set_size_is_kept_and_told_where_it_is_too_large() -> None:
    """The operator's word counts; the log names what does not fit."""
    taken = usable_memory_bytes() - (4 << 20)
    with capture_logs() as lines:
        blocks = pool_blocks(8 << 20, _LAYOUT, step=_STEP, taken_bytes=taken)

    assert blocks == 8 << 10
    assert [line["event"] for line in lines] == ["kv_pool_sized", "memory_too_small"]


@pytest.mark.parametrize(("set_bytes", "named"), [(None, "memory of"), (1000, "kv_cache_bytes")])
def test_not_one_block_stops_the_start(set_bytes: int | None, named: str) -> None:
    """The refusal names what is too small."""
    with pytest.raises(ServiceError, match=named):
        pool_blocks(set_bytes, _LAYOUT, step=_STEP, taken_bytes=usable_memory_bytes())

"""How many blocks the pool has: what the settings say, or what the memory leaves.

A pool of the default size never takes memory that the largest step will need. One of a set size is
taken at its word; where memory cannot hold it and the step, the log says so.
"""

import structlog

from worker.engine.openvino.graph import unusable
from worker.engine.openvino.memory import (
    StepMemory,
    blocks_in,
    default_kv_cache_bytes,
    usable_memory_bytes,
)
from worker.engine.openvino.runner import KvLayout

_log = structlog.get_logger(__name__)


def pool_blocks(
    set_bytes: int | None, layout: KvLayout, *, step: StepMemory, taken_bytes: int
) -> int:
    """Blocks of the pool, at least one; `taken_bytes`: what the process holds before it.

    Raises ServiceError when not one block fits.
    """
    usable = usable_memory_bytes()
    room = usable - taken_bytes
    if set_bytes is None:
        share = default_kv_cache_bytes(usable) // layout.block_bytes
        num_blocks = min(share, blocks_in(room, layout.block_bytes, step))
        size = f"memory of {usable} bytes, of which {taken_bytes} are taken"
    else:
        num_blocks = set_bytes // layout.block_bytes
        size = f"kv_cache_bytes is {set_bytes}"
    if num_blocks < 1:
        raise unusable(f"{size}; one block takes {layout.block_bytes} and steps {step.fixed_bytes}")
    kv_bytes = num_blocks * layout.block_bytes
    beside = step.bytes_beside(num_blocks)
    _log.info(
        "kv_pool_sized",
        kv_cache_bytes=kv_bytes,
        tokens=num_blocks * layout.block_size,
        blocks=num_blocks,
        step_bytes=beside,
    )
    if kv_bytes + beside > room:
        _log.warning(
            "memory_too_small",
            kv_cache_bytes=kv_bytes,
            step_bytes=beside,
            taken_bytes=taken_bytes,
            usable_bytes=usable,
        )
    return num_blocks

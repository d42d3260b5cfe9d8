"""How much memory this process may use, and the default share of it for the KV cache.

The pool leaves room for what grows later: kernels, activations and logits of the largest step.
"""

import os
from dataclasses import dataclass
from pathlib import Path

_LAPTOP_CAP_BYTES = 1 << 30
_SHARE = 4
_FLOAT_BYTES = 4
# Measured with steps of 256 outputs: the logits' bytes over again, old buffers included that are
# freed only when the larger ones stand.
_LOGITS_COPIES = 5
# Measured with steps of 768 tokens, in vectors of hidden and inner size together, a token.
_ACTIVATION_VECTORS = 8

# Where a container's limit is written: cgroup v2, then v1. A host without a limit writes "max" or a
# number far above its memory.
_CGROUP_LIMITS = (
    Path("/sys/fs/cgroup/memory.max"),
    Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
)
# Linux only: size and resident set of this process, in pages.
_OWN_PAGES = Path("/proc/self/statm")


@dataclass(frozen=True, slots=True)
class StepMemory:
    """What the largest step takes beside the pool, in bytes.

    `fixed_bytes`: kernels and activations; `row_bytes`: for each output that computes, of which
    there are `max_rows` at most.
    """

    fixed_bytes: int
    row_bytes: int
    max_rows: int

    def bytes_beside(self, num_blocks: int) -> int:
        """With a pool of `num_blocks`: each output that computes has at least one block."""
        return self.fixed_bytes + self.row_bytes * min(self.max_rows, num_blocks)


def step_memory(
    *, kernel_bytes: int, model_width: int, vocabulary_size: int, max_tokens: int, max_rows: int
) -> StepMemory:
    """Of steps of `max_tokens` prompt tokens and `max_rows` outputs.

    `model_width`: hidden and intermediate size together.
    """
    token_bytes = model_width * _ACTIVATION_VECTORS * _FLOAT_BYTES
    return StepMemory(
        fixed_bytes=kernel_bytes + max_tokens * token_bytes,
        row_bytes=vocabulary_size * _LOGITS_COPIES * _FLOAT_BYTES + token_bytes,
        max_rows=max_rows,
    )


def usable_memory_bytes(limit_files: tuple[Path, ...] = _CGROUP_LIMITS) -> int:
    """The host's memory, or the container's limit where that is lower."""
    host = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min([host, *(limit for file in limit_files for limit in _limits(file))])


def resident_bytes(pages_file: Path = _OWN_PAGES) -> int:
    """What this process holds now; 0 where the system does not tell it as Linux does."""
    if not pages_file.is_file():
        return 0
    return int(pages_file.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def default_kv_cache_bytes(usable_bytes: int) -> int:
    """A quarter of the usable memory, at most 1 GiB."""
    return min(usable_bytes // _SHARE, _LAPTOP_CAP_BYTES)


def blocks_in(room_bytes: int, block_bytes: int, step: StepMemory) -> int:
    """The most blocks that `room_bytes` hold together with the largest step over them."""
    left = room_bytes - step.fixed_bytes
    blocks = left // (block_bytes + step.row_bytes)
    if blocks > step.max_rows:
        blocks = (left - step.max_rows * step.row_bytes) // block_bytes
    return max(blocks, 0)


def _limits(file: Path) -> list[int]:
    """The number in `file`; none where it is missing or says that there is no limit."""
    if not file.is_file():
        return []
    text = file.read_text().strip()
    return [int(text)] if text.isdecimal() else []

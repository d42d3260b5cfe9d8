"""How much memory this process may use, and the default share of it for the KV cache."""

import os
from pathlib import Path

_LAPTOP_CAP_BYTES = 1 << 30
_SHARE = 4

# Where a container's limit is written: cgroup v2, then v1. A host without a limit writes "max" or a
# number far above its memory.
_CGROUP_LIMITS = (
    Path("/sys/fs/cgroup/memory.max"),
    Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
)


def usable_memory_bytes(limit_files: tuple[Path, ...] = _CGROUP_LIMITS) -> int:
    """The host's memory, or the container's limit where that is lower."""
    host = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min([host, *(limit for file in limit_files for limit in _limits(file))])


def default_kv_cache_bytes(usable_bytes: int) -> int:
    """A quarter of the usable memory, at most 1 GiB."""
    return min(usable_bytes // _SHARE, _LAPTOP_CAP_BYTES)


def _limits(file: Path) -> list[int]:
    """The number in `file`; none where it is missing or says that there is no limit."""
    if not file.is_file():
        return []
    text = file.read_text().strip()
    return [int(text)] if text.isdecimal() else []

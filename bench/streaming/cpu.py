"""CPU time of processes, from the kernel's scheduler accounting."""

from collections.abc import Sequence
from pathlib import Path


def cpu_seconds(pid: int) -> float:
    """CPU time of all threads of a process so far, in seconds, with nanosecond resolution."""
    nanoseconds = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        nanoseconds += int((task / "schedstat").read_text().split()[0])
    return nanoseconds / 1e9


def total_cpu_seconds(pids: Sequence[int]) -> float:
    """CPU time of several processes together."""
    return sum(cpu_seconds(pid) for pid in pids)

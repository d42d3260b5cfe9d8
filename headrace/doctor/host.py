"""The machine around the GPUs: Python, memory, shared memory, limits. All of it is read at once."""

import os
import platform
import resource
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from headrace.doctor.finding import GIB, Finding, fail, ok, shown_size, warn

_PYTHONS = ((3, 10), (3, 12))
_MACHINES = ("x86_64", "aarch64")
_STACK_BYTES = 64 << 20
_SHARED_BYTES_PER_GPU = GIB
_RUN_FLAGS = "`--ipc host --ulimit memlock=-1 --ulimit stack=67108864`"
_SHARED_REMEDY = (
    f"start the container with {_RUN_FLAGS}, or with `--shm-size` of 1 GiB or more a GPU; in "
    "Kubernetes mount an emptyDir with medium Memory at /dev/shm: otherwise ranks hang or die"
)


@dataclass(frozen=True, slots=True)
class HostFacts:
    """The machine as this process sees it; sizes in bytes, None: no bound, or not to be read.

    `memory_limit` is the strictest of the control groups that this process is in.
    """

    python: tuple[int, int, int]
    machine: str
    shared_total: int | None
    shared_free: int | None
    memory_total: int | None
    memory_available: int | None
    memory_limit: int | None
    locked_limit: int | None
    stack_limit: int | None


@dataclass(frozen=True, slots=True)
class Places:
    """Where Linux shows what is read here."""

    shared_memory: Path = Path("/dev/shm")  # noqa: S108 (it is looked at, not written to)
    memory: Path = Path("/proc/meminfo")
    own_groups: Path = Path("/proc/self/cgroup")
    groups: Path = Path("/sys/fs/cgroup")


def read_host(places: Places | None = None) -> HostFacts:
    """Read everything; what is not there is None."""
    places = places or Places()
    shared = _volume(places.shared_memory)
    memory = _memory(places.memory)
    return HostFacts(
        python=sys.version_info[:3],
        machine=platform.machine(),
        shared_total=None if shared is None else shared[0],
        shared_free=None if shared is None else shared[1],
        memory_total=memory.get("MemTotal"),
        memory_available=memory.get("MemAvailable"),
        memory_limit=min(_group_limits(places), default=None),
        locked_limit=_limit(resource.RLIMIT_MEMLOCK),
        stack_limit=_limit(resource.RLIMIT_STACK),
    )


def judge_python(facts: HostFacts, *, has_library: bool) -> Finding:
    """Against the wheels that there are; a library that loads is proof enough of another build."""
    version = ".".join(map(str, facts.python))
    text = f"{version} on {facts.machine}"
    if facts.python[:2] in _PYTHONS and facts.machine in _MACHINES:
        return ok("python", text)
    said = f"{text}: TensorRT-LLM has wheels for Python 3.10 and 3.12 on x86_64 and aarch64"
    if has_library:
        return warn("python", f"{said}; the one that is here is of another making")
    remedy = "use Python 3.12 on Linux: NVIDIA's image tensorrt-llm/release:1.2.1 has it"
    return fail("python", said, remedy)


def judge_memory(facts: HostFacts, weight_bytes: int | None) -> Finding:
    """The host's memory, and whether the weights pass through it."""
    if facts.memory_total is None or facts.memory_available is None:
        return warn("host memory", "cannot be read: this is not Linux", "serve on Linux")
    free = facts.memory_available
    text = f"{shown_size(facts.memory_total)}, {shown_size(free)} available"
    if facts.memory_limit is not None and facts.memory_limit < facts.memory_total:
        free = min(free, facts.memory_limit)
        text += f", limited to {shown_size(facts.memory_limit)} by the control group"
    if weight_bytes is not None and weight_bytes > free:
        return warn(
            "host memory",
            f"{text}: less than the {shown_size(weight_bytes)} of weights that are read through it",
            "raise the container's memory limit or free memory: loading is slow otherwise, or the "
            "kernel ends it",
        )
    return ok("host memory", text)


def judge_shared_memory(facts: HostFacts, num_gpus: int) -> Finding:
    """1 GiB a GPU: what ranks exchange lies there, and a container's default is 64 MiB."""
    if facts.shared_total is None or facts.shared_free is None:
        return fail("shared memory", "there is none: /dev/shm is not mounted", _SHARED_REMEDY)
    wanted = max(1, num_gpus) * _SHARED_BYTES_PER_GPU
    text = f"{shown_size(facts.shared_total)}, {shown_size(facts.shared_free)} free"
    gpus = f"{max(1, num_gpus)} GPU{'s' if num_gpus > 1 else ''}"
    if facts.shared_total < wanted:
        return fail("shared memory", f"{text}: {gpus} need {shown_size(wanted)}", _SHARED_REMEDY)
    if facts.shared_free < wanted:
        remedy = "remove what ended processes left in /dev/shm"
        return fail("shared memory", f"{text}: {gpus} need {shown_size(wanted)} free", remedy)
    return ok("shared memory", text)


def judge_limits(facts: HostFacts) -> Finding:
    """Locked memory without bound, and 64 MiB of stack, as NVIDIA's instructions have it."""
    locked = "unlimited" if facts.locked_limit is None else shown_size(facts.locked_limit)
    stack = "unlimited" if facts.stack_limit is None else f"{facts.stack_limit >> 20} MiB"
    text = f"locked memory {locked}, stack {stack}"
    is_short = facts.stack_limit is not None and facts.stack_limit < _STACK_BYTES
    if facts.locked_limit is not None or is_short:
        return warn(
            "limits",
            f"{text}; wanted: unlimited, 64 MiB",
            f"start the container with {_RUN_FLAGS}; under systemd set LimitMEMLOCK=infinity and "
            "LimitSTACK=64M",
        )
    return ok("limits", text)


def _volume(folder: Path) -> tuple[int, int] | None:
    try:
        volume = os.statvfs(folder)
    except OSError:
        return None
    return volume.f_frsize * volume.f_blocks, volume.f_frsize * volume.f_bavail


def _memory(file: Path) -> dict[str, int]:
    """Lines like `MemTotal:  1024 kB`, in bytes."""
    words = (line.split() for line in _text(file).splitlines())
    return {
        item[0].rstrip(":"): int(item[1]) << 10
        for item in words
        if len(item) == 3 and item[1].isdecimal()
    }


def _group_limits(places: Places) -> Iterator[int]:
    """Of the group of this process and all above it (version 2), and of version 1's root."""
    for line in _text(places.own_groups).splitlines():
        _, _, path = line.partition("::")
        own = places.groups / path.strip("/")
        for folder in (own, *own.parents) if line.startswith("0::") else ():
            limit = _text(folder / "memory.max").strip()
            if limit.isdecimal():
                yield int(limit)
            if folder == places.groups:
                break
    limit = _text(places.groups / "memory" / "memory.limit_in_bytes").strip()
    if limit.isdecimal():
        yield int(limit)


def _limit(kind: int) -> int | None:
    soft = resource.getrlimit(kind)[0]
    return None if soft == resource.RLIM_INFINITY else soft


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except OSError:
        return ""

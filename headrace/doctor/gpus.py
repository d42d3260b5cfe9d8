"""The GPUs, their driver and who uses them, as nvidia-smi shows them.

Formats: `nvidia-smi --query-gpu` and `--query-compute-apps` with csv,noheader,nounits; memory in
MiB; a value that a machine does not have is `[N/A]` or `[Not Supported]`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from headrace.doctor.children import run_command
from headrace.doctor.finding import Finding, fail, ok, shown_size, warn

_LEAST_DRIVER = 580
_LEAST_CUDA = 13000
_LEAST_CAPABILITY = (8, 0)
_IDLE_FRACTION = 0.9
_SECONDS = 20.0
_MIB = 1 << 20
_SHOWN_CHARACTERS = 80
_GPU_FIELDS = "index,name,driver_version,memory.total,memory.free,compute_cap"
_PROCESS_FIELDS = "pid,process_name,used_memory"
_FORMAT = "--format=csv,noheader,nounits"


@dataclass(frozen=True, slots=True)
class Gpu:
    """One GPU. Memory in bytes, None where the driver does not tell."""

    index: int
    name: str
    driver: str
    total_bytes: int | None
    free_bytes: int | None
    capability: tuple[int, int] | None


@dataclass(frozen=True, slots=True)
class GpuProcess:
    """A process that holds memory of a GPU, in bytes."""

    pid: str
    name: str
    used_bytes: int | None


@dataclass(frozen=True, slots=True)
class GpuFacts:
    """What nvidia-smi told; `problem` says why there are no GPUs, "" where there are."""

    gpus: tuple[Gpu, ...] = ()
    processes: tuple[GpuProcess, ...] = ()
    problem: str = ""


def find_gpus(seconds: float = _SECONDS) -> GpuFacts:
    """Ask nvidia-smi, twice at most, each time for no longer than `seconds`."""
    asked = run_command(["nvidia-smi", f"--query-gpu={_GPU_FIELDS}", _FORMAT], seconds)
    if asked.problem:
        said = asked.problem if asked.is_missing else f"nvidia-smi {asked.problem}"
        return GpuFacts(problem=said)
    # Warnings, of a damaged infoROM say, stand between the rows.
    gpus = tuple(_gpu(row) for row in _rows(asked.output) if _is_gpu(row))
    if not gpus:
        said = ascii(asked.output.strip()[:_SHOWN_CHARACTERS])
        listed = (
            f"answers what is no list of GPUs: {said}" if asked.output.strip() else "lists none"
        )
        return GpuFacts(problem=f"nvidia-smi {listed}")
    using = run_command(["nvidia-smi", f"--query-compute-apps={_PROCESS_FIELDS}", _FORMAT], seconds)
    rows = [] if using.problem else _rows(using.output)
    processes = tuple(GpuProcess(row[0], row[1], _size(row[2])) for row in rows if len(row) == 3)
    return GpuFacts(gpus, processes)


def judge_gpus(facts: GpuFacts) -> list[Finding]:
    """One line a GPU, or the one that says that there is none."""
    if facts.problem:
        return [
            fail(
                "gpus",
                f"none found: {facts.problem}",
                "on a machine with a GPU: install NVIDIA's driver 580 or later; in a container: "
                "start it with `--gpus all` (NVIDIA Container Toolkit); where nvidia-smi hangs or "
                "fails: look for `NVRM` in dmesg and restart the machine. Without a GPU serve with "
                "`headrace serve`, whose engine is the CPU's",
            )
        ]
    return [_judge_gpu(gpu) for gpu in facts.gpus]


def judge_driver(facts: GpuFacts, cuda_version: int | None) -> Finding:
    """The driver against CUDA 13; `cuda_version` is what libcuda says, 1000 x major + 10 x minor.

    With NVIDIA's package cuda-compat an older driver of a data centre's GPU does, too.
    """
    versions = sorted({gpu.driver for gpu in facts.gpus})
    said = ", ".join(versions)
    if all(_major(version) >= _LEAST_DRIVER for version in versions):
        return ok("driver", f"{said} (CUDA 13 needs {_LEAST_DRIVER})")
    if cuda_version is not None and cuda_version >= _LEAST_CUDA:
        return ok("driver", f"{said}, made to do for CUDA 13 by cuda-compat")
    return fail(
        "driver",
        f"{said}: CUDA 13 needs {_LEAST_DRIVER}",
        "install driver 580 or later on the host (the container has none of its own), or NVIDIA's "
        "package cuda-compat-13-0 where the GPU is one for data centres",
    )


def judge_use(facts: GpuFacts) -> Finding:
    """Whether others hold memory of these GPUs: two LLMs on one GPU hang rather than fail."""
    remedy = (
        "two engines on one GPU hang instead of failing: end these processes (a worker of before "
        "may have left its own behind), or give this one other GPUs by CUDA_VISIBLE_DEVICES"
    )
    if facts.processes:
        shown = ", ".join(_process(process) for process in facts.processes[:8])
        more = len(facts.processes) - 8
        rest = f" and {more} more" if more > 0 else ""
        return warn("gpu use", f"other processes hold GPU memory: {shown}{rest}", remedy)
    busy = [gpu for gpu in facts.gpus if not _is_idle(gpu)]
    if busy:
        names = ", ".join(f"GPU {gpu.index}" for gpu in busy)
        text = f"memory of {names} is held by processes that are not seen from here"
        return warn("gpu use", text, f"look on the host, or in other containers; {remedy}")
    return ok("gpu use", "nobody else holds GPU memory")


def _judge_gpu(gpu: Gpu) -> Finding:
    name = f"gpu {gpu.index}"
    memory = "memory unknown"
    if gpu.total_bytes is not None and gpu.free_bytes is not None:
        memory = f"{shown_size(gpu.total_bytes)}, {shown_size(gpu.free_bytes)} free"
    if gpu.capability is None:
        text = f"{gpu.name}, {memory}, compute capability unknown"
        return warn(name, text, "TensorRT-LLM 1.2 needs 8.0 (Ampere) or later: look it up")
    text = f"{gpu.name}, {memory}, compute capability {gpu.capability[0]}.{gpu.capability[1]}"
    if gpu.capability < _LEAST_CAPABILITY:
        return fail(
            name,
            f"{text}: bfloat16 needs 8.0",
            "use a GPU of the Ampere family or later, and CUDA_VISIBLE_DEVICES to leave this one "
            "out",
        )
    return ok(name, text)


def _rows(text: str) -> list[list[str]]:
    """No cell is quoted, and none holds a comma."""
    return [[cell.strip() for cell in line.split(",")] for line in text.splitlines()]


def _is_gpu(row: Sequence[str]) -> bool:
    return len(row) == 6 and row[0].isdecimal() and _major(row[2]) > 0


def _gpu(row: Sequence[str]) -> Gpu:
    index, name, driver, total, free, capability = row
    major, _, minor = capability.partition(".")
    known = major.isdecimal() and minor.isdecimal()
    return Gpu(
        index=int(index),
        name=name,
        driver=driver,
        total_bytes=_size(total),
        free_bytes=_size(free),
        capability=(int(major), int(minor)) if known else None,
    )


def _size(mebibytes: str) -> int | None:
    return int(mebibytes) * _MIB if mebibytes.isdecimal() else None


def _major(version: str) -> int:
    """0 for what is no version."""
    major = version.partition(".")[0]
    return int(major) if major.isdecimal() else 0


def _is_idle(gpu: Gpu) -> bool:
    if gpu.total_bytes is None or gpu.free_bytes is None:
        return True
    return gpu.free_bytes >= _IDLE_FRACTION * gpu.total_bytes


def _process(process: GpuProcess) -> str:
    used = "" if process.used_bytes is None else f", {shown_size(process.used_bytes)}"
    return f"{process.name} (pid {process.pid}{used})"

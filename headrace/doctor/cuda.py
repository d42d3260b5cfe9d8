"""CUDA as a program meets it: libcuda's version and whether it starts, and the toolkit's compiler.

The numbers are cudaError_enum's: 100 no device, 802 the NVSwitch fabric is not up yet, 803 driver
and library do not match, 804 cuda-compat on a GPU that it is not for.
"""

import ctypes
import re
from collections.abc import Sequence
from typing import Any

from headrace.doctor.answering import answer_with
from headrace.doctor.children import Answer, ask_program, run_command
from headrace.doctor.finding import Finding, fail, ok, warn

LIBRARY = "libcuda.so.1"

_LEAST = 13000
_SECONDS = 30.0
_REMEDIES = {
    100: "CUDA_VISIBLE_DEVICES may hide every GPU, or the container was started without `--gpus`",
    802: "start nvidia-fabricmanager, of the driver's exact version, on the host",
    803: "the driver was replaced while it was in use, or a second libcuda is found first: restart "
    "the machine, and take the folder of stubs or compat out of LD_LIBRARY_PATH",
    804: "take cuda-compat out of LD_LIBRARY_PATH and install driver 580 or later",
}


def ask_cuda(library: str = LIBRARY, seconds: float = _SECONDS) -> Answer:
    """Load libcuda and start it, in a child; facts: `version`, `status` (0: it started)."""
    return ask_program(__name__, [library], seconds)


def judge_cuda(answer: Answer) -> Finding:
    """Whether CUDA 13 starts."""
    facts = answer.facts
    if facts is None:
        return fail(
            "cuda",
            f"{LIBRARY}, the driver's library, cannot be loaded: its trial {answer.problem}",
            "in a container: start it with `--gpus all`; elsewhere: install the driver with its "
            "compute libraries (package libnvidia-compute-580)",
        )
    shown = f"{facts['version'] // 1000}.{facts['version'] % 1000 // 10}"
    status = facts["status"]
    if status:
        remedy = _REMEDIES.get(status, "look for `NVRM` and `Xid` in dmesg on the host")
        return fail("cuda", f"{shown}, but cuInit fails with error {status}", remedy)
    if facts["version"] < _LEAST:
        remedy = "install driver 580 or later, or NVIDIA's package cuda-compat-13-0"
        return fail("cuda", f"the driver knows CUDA {shown}, TensorRT-LLM 1.2 needs 13.0", remedy)
    return ok("cuda", f"the driver knows CUDA {shown}")


def find_toolkit(seconds: float = _SECONDS) -> str | None:
    """The release of nvcc, from the PATH or the usual folder; None where there is none."""
    for command in ("nvcc", "/usr/local/cuda/bin/nvcc"):
        found = re.search(
            r"release (\d+\.\d+)", run_command([command, "--version"], seconds).output
        )
        if found:
            return found[1]
    return None


def judge_toolkit(release: str | None) -> Finding:
    """The toolkit is not needed to load the library, but for kernels that are compiled later."""
    remedy = (
        "install the CUDA toolkit 13.1 and set CUDA_HOME to its folder; NVIDIA's image has it. "
        "Without it whatever compiles kernels while it runs fails"
    )
    if release is None:
        return warn("cuda toolkit", "nvcc is not there", remedy)
    if release.partition(".")[0] != "13":
        return warn("cuda toolkit", f"nvcc {release}: TensorRT-LLM 1.2 is made with 13.1", remedy)
    return ok("cuda toolkit", f"nvcc {release}")


def _facts(arguments: Sequence[str]) -> dict[str, Any]:
    """Raises OSError where there is no such library."""
    library = ctypes.CDLL(arguments[0])
    version = ctypes.c_int(0)
    library.cuDriverGetVersion(ctypes.byref(version))
    return {"version": version.value, "status": int(library.cuInit(0))}


if __name__ == "__main__":
    answer_with(_facts)

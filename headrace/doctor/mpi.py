"""MPI: TensorRT-LLM starts even a single GPU's worker through mpi4py and OpenMPI."""

import importlib
from collections.abc import Sequence
from typing import Any

from headrace.doctor.answering import answer_with
from headrace.doctor.children import Answer, Ended, ask_program, run_command
from headrace.doctor.finding import Finding, fail, ok, warn

_COMMAND_SECONDS = 20.0
_IMPORT_SECONDS = 60.0
_INSTALL = "install OpenMPI (Debian and Ubuntu: `apt-get install libopenmpi-dev openmpi-bin`)"


def ask_mpi(seconds: float = _IMPORT_SECONDS) -> Answer:
    """Start MPI in a child; facts: `mpi4py` and `library`, their versions."""
    return ask_program(__name__, [], seconds)


def find_mpirun(seconds: float = _COMMAND_SECONDS) -> Ended:
    """What `mpirun --version` says."""
    return run_command(["mpirun", "--version"], seconds)


def judge_mpi(answer: Answer) -> Finding:
    """Without it no engine starts."""
    if answer.facts is None:
        if "ModuleNotFoundError" in answer.problem:
            return fail("mpi", "mpi4py is not installed", f"{_INSTALL}, then mpi4py with pip")
        return fail(
            "mpi",
            f"MPI cannot be started through mpi4py: it {answer.problem}",
            f"{_INSTALL}; mpi4py must be made for the OpenMPI that is found, and in a container "
            "that runs as root OMPI_ALLOW_RUN_AS_ROOT=1 and its _CONFIRM may be missing",
        )
    text = f"{answer.facts['library']}, mpi4py {answer.facts['mpi4py']}"
    if "open mpi" not in text.lower():
        return warn("mpi", f"{text}: TensorRT-LLM is made for OpenMPI", _INSTALL)
    return ok("mpi", text)


def judge_mpirun(ended: Ended) -> Finding:
    """Only several machines need it."""
    if ended.problem:
        said = ended.problem if ended.is_missing else f"mpirun {ended.problem}"
        return warn("mpirun", f"{said}: several machines need it, one does not", _INSTALL)
    lines = ended.output.strip().splitlines()
    return ok("mpirun", lines[0] if lines else "there")


def _facts(_arguments: Sequence[str]) -> dict[str, Any]:
    """Raises ImportError, RuntimeError."""
    mpi4py = importlib.import_module("mpi4py")
    mpi = importlib.import_module("mpi4py.MPI")
    library = mpi.Get_library_version().split(",")[0].strip("\0 \n")
    return {"mpi4py": str(mpi4py.__version__), "library": library}


if __name__ == "__main__":
    answer_with(_facts)

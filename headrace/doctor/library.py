"""TensorRT-LLM itself: whether it can be imported, its version, and what its API has.

Builds of one version differ, so keywords are read from signatures. Its import takes tens of
seconds, prints, starts MPI and may crash: it happens in a child.
"""

import importlib
import importlib.util
import inspect
from collections.abc import Sequence
from typing import Any

from headrace.doctor.answering import answer_with
from headrace.doctor.children import Answer, ask_program
from headrace.doctor.finding import Finding, fail, ok, warn

# Spelt once and imported by name: only the engine may depend on it.
_MODULE = "tensorrt_llm"
_KNOWN = "1.2."
_SECONDS = 300.0
_IMAGE = "NVIDIA's image nvcr.io/nvidia/tensorrt-llm/release:1.2.1"
_NEEDED = frozenset(("inputs", "sampling_params", "streaming"))


def ask_library(seconds: float = _SECONDS) -> Answer:
    """Import it in a child; facts: `version`, `keywords`, `has_check_health`, `has_grpc`."""
    return ask_program(__name__, [], seconds)


def judge_library(answer: Answer) -> Finding:
    """Whether it is there, and the release that the engine knows."""
    facts = answer.facts
    if facts is None:
        return _judge_absence(answer.problem)
    text = f"{facts['version']}"
    if not facts["version"].startswith(_KNOWN):
        remedy = f"the engine knows 1.2: use {_IMAGE}"
        return warn("tensorrt-llm", f"{text}, which this engine has not been made for", remedy)
    return ok("tensorrt-llm", text)


def judge_build(facts: dict[str, Any]) -> Finding:
    """What the engine looks for in the API before it uses it."""
    keywords = frozenset(facts["keywords"])
    if missing := sorted(_NEEDED - keywords):
        return fail(
            "build",
            f"generate_async does not take {', '.join(missing)}",
            f"the engine knows 1.2: use {_IMAGE}",
        )
    optional = sorted(name for name in keywords - _NEEDED if not name.startswith("_"))
    health = "there" if facts["has_check_health"] else "not there, its executor is asked instead"
    grpc = "there (not used)" if facts["has_grpc"] else "not there (not needed)"
    text = f"generate_async takes {', '.join(optional)}; _check_health {health}; own gRPC {grpc}"
    return ok("build", text)


def _judge_absence(problem: str) -> Finding:
    if "ModuleNotFoundError" in problem and f"'{_MODULE}'" in problem:
        remedy = (
            f"use {_IMAGE}, or install tensorrt-llm 1.2.1 for Python 3.12 from NVIDIA's package "
            "index: what other indexes have of it does not contain the library"
        )
        return fail("tensorrt-llm", "it is not installed", remedy)
    remedy = (
        f"its libraries must fit torch, CUDA and OpenMPI to the version: use {_IMAGE}, and mend "
        "what is said above of cuda, torch and mpi first"
    )
    return fail("tensorrt-llm", f"its import {problem}", remedy)


def _facts(_arguments: Sequence[str]) -> dict[str, Any]:
    """Raises whatever a broken installation raises."""
    library = importlib.import_module(_MODULE)
    parameters = inspect.signature(library.LLM.generate_async).parameters
    return {
        "version": str(library.__version__),
        "keywords": [name for name in parameters if name != "self"],
        "has_check_health": hasattr(library.LLM, "_check_health"),
        "has_grpc": importlib.util.find_spec(f"{_MODULE}.grpc") is not None,
    }


if __name__ == "__main__":
    answer_with(_facts)

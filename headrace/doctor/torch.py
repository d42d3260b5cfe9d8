"""PyTorch: its version, the CUDA that it was made for, and the GPUs that it sees."""

import importlib
from collections.abc import Sequence
from typing import Any

from headrace.doctor.answering import answer_with
from headrace.doctor.children import Answer, ask_program
from headrace.doctor.finding import Finding, fail, ok, warn

_SECONDS = 180.0
_INSTALL = "install torch==2.9.1 from PyTorch's index cu130, before tensorrt-llm"
_KNOWN = ("2.9", "2.10")


def ask_torch(seconds: float = _SECONDS) -> Answer:
    """Import it in a child.

    Facts: `version`, `cuda` (None: made without), `num_gpus`, `free_bytes` of each.
    """
    return ask_program(__name__, [], seconds)


def judge_torch(answer: Answer, needed_gpus: int) -> Finding:
    """`needed_gpus` is what the settings need on this machine."""
    facts = answer.facts
    if facts is None:
        if "ModuleNotFoundError" in answer.problem:
            return fail("torch", "it is not installed", _INSTALL)
        return fail("torch", f"its import {answer.problem}", _INSTALL)
    text = f"{facts['version']}, CUDA {facts['cuda'] or 'none'}, sees {facts['num_gpus']} GPUs"
    if facts["num_gpus"] < needed_gpus:
        return fail(
            "torch",
            f"{text}: the settings need {needed_gpus}",
            f"a build without CUDA: {_INSTALL}; otherwise look at CUDA_VISIBLE_DEVICES, and at "
            "what is said of cuda above",
        )
    if not facts["version"].startswith(_KNOWN):
        return warn("torch", f"{text}: TensorRT-LLM 1.2 is made with 2.9.1", _INSTALL)
    return ok("torch", text)


def _facts(_arguments: Sequence[str]) -> dict[str, Any]:
    """Raises ImportError, OSError."""
    torch = importlib.import_module("torch")
    made_for = getattr(getattr(torch, "version", None), "cuda", None)
    num_gpus = int(torch.cuda.device_count()) if torch.cuda.is_available() else 0
    return {
        "version": str(torch.__version__),
        "cuda": made_for,
        "num_gpus": num_gpus,
        "free_bytes": [int(torch.cuda.mem_get_info(gpu)[0]) for gpu in range(num_gpus)],
    }


if __name__ == "__main__":
    answer_with(_facts)

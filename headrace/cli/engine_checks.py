"""What an engine needs before `headrace serve` starts anything: its library, its kind of model.

Nothing of a library is imported: that of the GPU engine takes long and starts MPI.
"""

from importlib.util import find_spec
from pathlib import Path

from headrace.models.default import DEFAULT_MODEL
from headrace.runtime.errors import StartError

GPU_ENGINE = "tensorrt_llm"
_START_SECONDS = 180.0
# Weights of hundreds of gigabytes are read, and kernels are tuned.
_GPU_START_SECONDS = 3600.0
# A worker whose library's end hangs leaves by itself: killed, it would leave ranks behind.
_LAST_RESORT_SECONDS = 10.0


def start_seconds(engine: str) -> float:
    """How long services may take until they are ready, in seconds."""
    return _GPU_START_SECONDS if engine == GPU_ENGINE else _START_SECONDS


def check_engine(engine: str, model: str, workers: int) -> None:
    """Raise StartError, one sentence with its remedy, for what cannot be served."""
    if engine != GPU_ENGINE:
        return
    if find_spec("tensorrt_llm") is None:
        from worker.engine.tensorrt_llm.library import (  # noqa: PLC0415 (the CLI imports no service)
            missing_library,
        )

        raise missing_library("No module named 'tensorrt_llm'")
    if workers > 1:
        raise StartError(
            f"--workers {workers}: a tensorrt_llm worker takes all the GPUs that it sees, and two "
            "on one GPU hang; start others as `headrace worker`, each with CUDA_VISIBLE_DEVICES of "
            "its own, and name all in [edge.backend] worker_addresses"
        )
    if model == DEFAULT_MODEL.name:
        raise StartError(
            f"the default model {model} is in OpenVINO's format: give the tensorrt_llm engine a "
            "folder with a Hugging Face checkpoint by --model"
        )


def check_model(engine: str, folder: Path) -> None:
    """Raise StartError where a folder has no weights that the engine reads."""
    if engine == GPU_ENGINE and not any(folder.glob("*.safetensors")):
        raise StartError(
            f"{folder} has no *.safetensors: TensorRT-LLM loads Hugging Face's checkpoints; "
            "download the model's original, not its conversion to OpenVINO or GGUF"
        )


def end_seconds(engine: str, shutdown_seconds: float) -> float:
    """How long a worker's engine may take to end beyond what its requests may, in seconds."""
    return shutdown_seconds + _LAST_RESORT_SECONDS if engine == GPU_ENGINE else 0.0

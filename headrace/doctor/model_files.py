"""The model's directory: configuration, tokenizer, and whether its weights fit the GPUs.

Formats: Hugging Face's checkpoints, model.safetensors.index.json with its `weight_map`; quantised
ones say so in hf_quant_config.json (NVIDIA's ModelOpt) or in config.json's quantization_config.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from headrace.doctor.finding import Finding, fail, ok, shown_size, warn
from headrace.doctor.gpus import Gpu
from headrace.models.directory import ModelDirectory, open_model_directory, read_json_object
from headrace.runtime.errors import StartError

_INDEX = "model.safetensors.index.json"
_TIGHT_FRACTION = 0.85
# The least compute capability whose tensor cores compute in a format.
_CAPABILITIES = {"fp8": (8, 9), "nvfp4": (10, 0), "fp4": (10, 0)}


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """What the directory holds; `problem` says why it cannot be served, "" where it can.

    `weight_bytes` is the size of the weights' files; `missing` names those that the index has and
    the folder has not.
    """

    name: str
    weight_bytes: int = 0
    num_files: int = 0
    missing: tuple[str, ...] = ()
    dtype: str = "unknown type"
    quantization: str = ""
    context_length: int = 0
    problem: str = ""


def read_model(folder: Path) -> ModelFacts:
    """Read the JSON files and the weights' sizes; no weight is loaded."""
    try:
        return _read(open_model_directory(folder))
    except StartError as error:
        return ModelFacts(folder.name, problem=str(error))


def judge_model(facts: ModelFacts) -> Finding:
    """Whether there is all that is loaded."""
    if facts.problem:
        remedy = "give a folder with config.json, tokenizer.json and safetensors, all readable"
        return fail("model", facts.problem, remedy)
    if facts.missing:
        text = f"{facts.name}: {_missing(facts.missing)}"
        return fail("model", text, "download it again to its end")
    if not facts.num_files:
        return fail(
            "model",
            f"{facts.name} has no *.safetensors",
            "TensorRT-LLM loads Hugging Face's checkpoints: download the model's original, not its "
            "conversion to OpenVINO or GGUF",
        )
    kind = facts.quantization or facts.dtype
    files = "1 file" if facts.num_files == 1 else f"{facts.num_files} files"
    weights = f"{shown_size(facts.weight_bytes)} of weights in {files} ({kind})"
    return ok("model", f"{facts.name}: {weights}, context {facts.context_length} tokens")


def judge_fit(
    facts: ModelFacts, gpus: Sequence[Gpu], free_bytes: Sequence[int], world_size: int
) -> Finding:
    """Whether the weights, split over `world_size` GPUs, leave room on the one with the least.

    `free_bytes` is of the GPUs that will be used; `gpus` are all of the machine.
    """
    share = facts.weight_bytes // world_size
    needed = f"{shown_size(share)} of weights a GPU over {world_size}"
    unfit = next((gpu for gpu in gpus if not _computes(gpu, facts.quantization)), None)
    if unfit is not None and unfit.capability is not None:
        version = f"{unfit.capability[0]}.{unfit.capability[1]}"
        return warn(
            "model fit",
            f"GPU {unfit.index} ({version}) has no arithmetic for {facts.quantization}",
            "take a checkpoint in bfloat16 or in a format that this GPU computes in",
        )
    free = min(free_bytes, default=None)
    if free is None:
        return warn("model fit", f"{needed}; how much memory is free is not known")
    text = f"{needed}, {shown_size(free)} free"
    remedy = (
        "raise [worker.tensorrt_llm] tensor_parallel, take a quantised checkpoint (fp8), or end "
        "what else holds GPU memory"
    )
    if share > free:
        return fail("model fit", text, remedy)
    if share > _TIGHT_FRACTION * free:
        return warn("model fit", f"{text}: little is left for the KV cache", remedy)
    return ok("model fit", text)


def _missing(files: Sequence[str]) -> str:
    if len(files) == 1:
        return f"1 weight file is missing: {files[0]}"
    return f"{len(files)} weight files are missing, {files[0]} is the first"


def _read(model: ModelDirectory) -> ModelFacts:
    config = read_json_object(model.path / "config.json")
    files, missing = _weight_files(model.path)
    return ModelFacts(
        name=model.name,
        weight_bytes=sum(file.stat().st_size for file in files),
        num_files=len(files),
        missing=missing,
        dtype=str(config.get("torch_dtype") or config.get("dtype") or "unknown type"),
        quantization=_quantization(model.path, config),
        context_length=model.context_length,
    )


def _weight_files(folder: Path) -> tuple[list[Path], tuple[str, ...]]:
    """Those that are loaded: repositories may hold the same weights a second time."""
    if (folder / _INDEX).is_file():
        names = read_json_object(folder / _INDEX).get("weight_map")
        if not isinstance(names, dict):
            raise StartError(f"{folder / _INDEX} has no weight_map")
        wanted = [folder / name for name in sorted(set(names.values()))]
        missing = tuple(file.name for file in wanted if not file.is_file())
        return [file for file in wanted if file.is_file()], missing
    found = sorted(folder.glob("*.safetensors"))
    return [file for file in found if not file.name.startswith("consolidated")] or found, ()


def _quantization(folder: Path, config: dict[str, Any]) -> str:
    """In small letters; "" for a checkpoint that is not quantised."""
    source = folder / "hf_quant_config.json"
    made = read_json_object(source).get("quantization") if source.is_file() else None
    named = made.get("quant_algo") if isinstance(made, dict) else None
    other = config.get("quantization_config")
    if named is None and isinstance(other, dict):
        named = other.get("quant_algo") or other.get("quant_method")
    return str(named or "").lower()


def _computes(gpu: Gpu, quantization: str) -> bool:
    wanted = next((c for name, c in _CAPABILITIES.items() if name in quantization), (0, 0))
    return gpu.capability is None or gpu.capability >= wanted

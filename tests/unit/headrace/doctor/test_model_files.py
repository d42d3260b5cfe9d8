"""A model's directory, and whether its weights fit."""

import json
from pathlib import Path

import pytest

from headrace.doctor.finding import GIB
from headrace.doctor.gpus import Gpu
from headrace.doctor.model_files import ModelFacts, judge_fit, judge_model, read_model
from tests.support.gpu_machine import checkpoint

_GPU = Gpu(0, "NVIDIA A100", "580.65.06", 80 * GIB, 79 * GIB, (8, 0))


def test_a_checkpoint_is_read(tmp_path: Path) -> None:
    """Weights by their size, type and context by the configuration."""
    facts = read_model(checkpoint(tmp_path / "m"))

    assert facts == ModelFacts(
        "m", weight_bytes=1024, num_files=1, dtype="bfloat16", context_length=4096
    )
    assert judge_model(facts).text == (
        "m: 0 MiB of weights in 1 file (bfloat16), context 4096 tokens"
    )


def test_the_index_says_which_files_are_loaded(tmp_path: Path) -> None:
    """Others of the folder do not count; those that are missing are named."""
    folder = checkpoint(tmp_path / "m")
    (folder / "a.safetensors").write_bytes(bytes(10))
    index = {"weight_map": {"x": "a.safetensors", "y": "a.safetensors", "z": "b.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")

    facts = read_model(folder)

    assert (facts.weight_bytes, facts.missing) == (10, ("b.safetensors",))
    assert judge_model(facts).text == "m: 1 weight file is missing: b.safetensors"


def test_weights_in_another_layout_are_not_counted_twice(tmp_path: Path) -> None:
    """Some repositories hold them a second time."""
    folder = checkpoint(tmp_path / "m")
    (folder / "consolidated.safetensors").write_bytes(bytes(5000))

    assert read_model(folder).weight_bytes == 1024


@pytest.mark.parametrize(
    ("file", "content", "quantization"),
    [
        ("hf_quant_config.json", {"quantization": {"quant_algo": "FP8"}}, "fp8"),
        ("hf_quant_config.json", {"quantization": {"quant_algo": None}}, ""),
        ("other.json", {}, ""),
    ],
)
def test_a_quantised_checkpoint_is_told(
    tmp_path: Path, file: str, content: object, quantization: str
) -> None:
    """By ModelOpt's file."""
    folder = checkpoint(tmp_path / "m")
    (folder / file).write_text(json.dumps(content), encoding="utf-8")

    assert read_model(folder).quantization == quantization


def test_quantisation_may_stand_in_the_configuration(tmp_path: Path) -> None:
    """As other tools write it."""
    folder = checkpoint(tmp_path / "m", quantization_config={"quant_method": "awq"})

    assert read_model(folder).quantization == "awq"


@pytest.mark.parametrize(
    ("absent", "said"),
    [
        ("config.json", "config.json is missing"),
        ("tokenizer.json", "tokenizer.json is missing"),
        ("model.safetensors", "m has no *.safetensors"),
    ],
)
def test_what_is_missing_is_named(tmp_path: Path, absent: str, said: str) -> None:
    """And fails."""
    folder = checkpoint(tmp_path / "m")
    (folder / absent).unlink()

    finding = judge_model(read_model(folder))

    assert finding.verdict == "fail"
    assert said in finding.text


@pytest.mark.parametrize(
    ("weights", "world_size", "free", "verdict"),
    [
        (16 * GIB, 1, [79 * GIB], "ok"),
        (140 * GIB, 1, [79 * GIB], "fail"),
        (140 * GIB, 2, [79 * GIB, 79 * GIB], "warn"),
        (140 * GIB, 4, [79 * GIB] * 4, "ok"),
        (140 * GIB, 4, [79 * GIB, 79 * GIB, 79 * GIB, 10 * GIB], "fail"),
        (16 * GIB, 1, [], "warn"),
    ],
)
def test_weights_are_held_to_the_least_free_memory(
    weights: int, world_size: int, free: list[int], verdict: str
) -> None:
    """Their share, and some room for the KV cache."""
    facts = ModelFacts("m", weight_bytes=weights, num_files=1)

    assert judge_fit(facts, [_GPU], free, world_size).verdict == verdict


@pytest.mark.parametrize(
    ("quantization", "capability", "verdict"),
    [
        ("fp8", (8, 0), "warn"),
        ("fp8", (8, 9), "ok"),
        ("nvfp4", (9, 0), "warn"),
        ("nvfp4", (10, 0), "ok"),
        ("awq", (8, 0), "ok"),
        ("fp8", None, "ok"),
    ],
)
def test_a_format_needs_its_gpu(
    quantization: str, capability: tuple[int, int] | None, verdict: str
) -> None:
    """One that a GPU does not compute in is named."""
    gpu = Gpu(0, "GPU", "580.1", 80 * GIB, 79 * GIB, capability)
    facts = ModelFacts("m", weight_bytes=GIB, num_files=1, quantization=quantization)

    assert judge_fit(facts, [gpu], [79 * GIB], 1).verdict == verdict

"""What `headrace serve` refuses for an engine before it starts anything."""

from pathlib import Path

import pytest

from headrace.cli.engine_checks import check_engine, check_model, end_seconds, start_seconds
from headrace.cli.serve import parse_arguments
from headrace.cli.serve_plan import make_plan
from headrace.models.default import DEFAULT_MODEL
from headrace.runtime.errors import StartError
from tests.support.tensorrt_llm import importable

GPU = "tensorrt_llm"
ANY_PORTS = ("--port", "0", "--tokenizer-port", "0", "--worker-port", "0")


def test_a_missing_library_comes_with_its_remedy() -> None:
    """Whichever model it is: NVIDIA's image has it."""
    with pytest.raises(StartError, match=r"No module named 'tensorrt_llm'; .*tensorrt-llm/release"):
        check_engine(GPU, "llama", workers=1)


@pytest.mark.parametrize(
    ("model", "workers", "message"),
    [
        ("llama", 2, r"--workers 2: .* CUDA_VISIBLE_DEVICES of its own"),
        (DEFAULT_MODEL.name, 1, r"is in OpenVINO's format: .* by --model"),
    ],
)
def test_what_gpus_cannot_serve(model: str, workers: int, message: str) -> None:
    """The sentence says what to do instead; the other engines take both."""
    with importable():
        with pytest.raises(StartError, match=message):
            check_engine(GPU, model, workers)
        check_engine(GPU, "llama", workers=1)
    check_engine("paced", model, workers)
    check_engine("openvino", model, workers)


def test_weights_that_the_library_reads(tmp_path: Path) -> None:
    """A folder of OpenVINO's or GGUF files is refused by its path; the other engines look later."""
    with pytest.raises(StartError, match=rf"{tmp_path} has no \*\.safetensors"):
        check_model(GPU, tmp_path)
    check_model("openvino", tmp_path)
    (tmp_path / "model.safetensors").touch()
    check_model(GPU, tmp_path)


def test_gpus_take_longer(tmp_path: Path) -> None:
    """To load, and to end: the worker ends its library before it is killed."""
    assert start_seconds(GPU) > start_seconds("openvino")
    assert (end_seconds(GPU, 30.0), end_seconds("openvino", 30.0)) == (40.0, 0.0)
    file = tmp_path / "settings.toml"
    file.write_text("[worker]\ndrain_grace_seconds = 3\ntensorrt_llm.shutdown_seconds = 9\n")
    flags = [*ANY_PORTS, "--config", str(file), "--engine"]
    graces = [make_plan(parse_arguments([*flags, name])).worker_grace for name in (GPU, "paced")]

    assert graces == [22.0, 3.0]


def test_adapters_are_shown(tmp_path: Path) -> None:
    """Their names stand in what is printed, for the engine that serves them."""
    file = tmp_path / "settings.toml"
    file.write_text("[worker.tensorrt_llm.lora_adapters]\nsql.path = '/a'\nchat.path = '/b'\n")
    flags = [*ANY_PORTS, "--config", str(file), "--engine"]
    texts = {
        name: make_plan(parse_arguments([*flags, name])).greeting("llama", 1.0)
        for name in (GPU, "openvino")
    }

    assert "  adapters   chat, sql\n" in texts[GPU]
    assert "adapters" not in texts["openvino"]

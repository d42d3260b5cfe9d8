"""The settings files for TensorRT-LLM: read with our checks, accepted by the library's double."""

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from headrace.cli.tables import load_settings, settings_tables
from tests.support.lora_adapters import write_adapter
from tests.support.models import fake_model
from tests.support.tensorrt_llm import importable
from worker.engine.tensorrt_llm.adapters import read_adapters
from worker.engine.tensorrt_llm.library import open_library
from worker.engine.tensorrt_llm.llm_arguments import llm_arguments
from worker.engine.tensorrt_llm.settings import LoraAdapterSettings
from worker.settings import WorkerSettings

with importable():
    from tensorrt_llm.double.machine import using
    from tensorrt_llm.double.switches import Switches

ROOT = Path(__file__).parents[3]
FOLDER = ROOT / "examples" / "tensorrt-llm"
README = (FOLDER / "README.md").read_text()
H100_BYTES = 81_559 * 2**20
OTHER_BYTES = 4e9
# What trtllm-llmapi-launch takes from the environment of the command that it starts.
STRIPPED = (
    "OMPI_",
    "PMIX_",
    "PMI_",
    "SLURM_",
    "MPI_",
    "UCX_",
    "I_MPI_",
    "HYDRA_",
    "KMP_",
    "MPICH_",
)


@dataclass(frozen=True)
class Shape:
    """A model as its config.json has it; heads are of 128 values."""

    weight_bytes: float
    layers: int
    key_value_heads: int = 8
    value_bytes: int = 2


EMBEDDING_AND_HEAD = 2 * 128_256 * 4096
MODELS = {
    "one-h100-bf16": Shape(8.03e9 * 2, 32),
    "one-h100-lora": Shape(8.03e9 * 2, 32),
    "one-h100-fp8": Shape(8.03e9 + EMBEDDING_AND_HEAD, 32, value_bytes=1),
    "eight-h100": Shape(70.55e9 * 2, 80),
    "two-nodes": Shape(405.9e9 * 2, 126),
}
GPUS = {
    "one-h100-bf16": 1,
    "one-h100-lora": 1,
    "one-h100-fp8": 1,
    "eight-h100": 8,
    "two-nodes": 16,
}


def worker(name: str) -> WorkerSettings:
    return load_settings("worker", WorkerSettings, FOLDER / f"{name}.toml")


def test_every_file_is_tried() -> None:
    """No file of the folder is left out here."""
    assert {file.stem for file in FOLDER.glob("*.toml")} == MODELS.keys() == GPUS.keys()


@pytest.mark.parametrize("name", MODELS)
def test_settings_are_good(name: str) -> None:
    """Every table of the file passes the checks of the service that reads it."""
    for table, settings in settings_tables().items():
        load_settings(table, settings, FOLDER / f"{name}.toml")
    engine = worker(name).tensorrt_llm
    assert worker(name).engine == "tensorrt_llm"
    assert engine.tensor_parallel * engine.pipeline_parallel == GPUS[name]
    assert (engine.kv_cache.dtype == "fp8") == (MODELS[name].value_bytes == 1)
    assert f"--config examples/tensorrt-llm/{name}.toml" in (FOLDER / f"{name}.toml").read_text()


@pytest.mark.parametrize("name", MODELS)
def test_services_fit_together(name: str) -> None:
    """The edge asks for what tokenizer and worker serve, and speaks TLS where they do."""
    file = FOLDER / f"{name}.toml"
    loaded: Any = {
        table: load_settings(table, settings, file) for table, settings in settings_tables().items()
    }
    assert loaded["tokenizer"].models == (loaded["worker"].model,)
    uses_tls = {loaded["tokenizer"].tls.is_on, loaded["worker"].tls.is_on}
    assert uses_tls == {loaded["edge"].backend.tls.ca_file is not None}
    for service in ("tokenizer", "worker"):
        is_reached = loaded[service].host == "0.0.0.0"  # noqa: S104 (what the file says)
        assert is_reached == loaded[service].tls.checks_clients
        assert not loaded[service].insecure
        for address in getattr(loaded["edge"].backend, f"{service}_addresses"):
            assert address.endswith(f":{loaded[service].port}")


@pytest.mark.parametrize("name", MODELS)
def test_library_takes_the_arguments(name: str) -> None:
    """The double's argument classes, which reject what 1.2 has not, take what becomes of them."""
    model = replace(fake_model(), context_length=131_072)
    with importable(), using(Switches(gpus=min(GPUS[name], 8))):
        configs = open_library().configs
        arguments = configs.TorchLlmArgs(**llm_arguments(worker(name).tensorrt_llm, model, configs))
    assert arguments.tensor_parallel_size * arguments.pipeline_parallel_size == GPUS[name]
    assert arguments.max_seq_len == worker(name).tensorrt_llm.max_seq_len


def test_adapters_are_served(tmp_path: Path) -> None:
    """Those of the file pass our checks at the rank that it allows, and the library takes them."""
    settings = worker("one-h100-lora").tensorrt_llm
    named = {name: one.path for name, one in settings.lora_adapters.items()}
    there = {
        name: LoraAdapterSettings(path=write_adapter(tmp_path / name, rank=settings.lora.max_rank))
        for name in named
    }
    settings = settings.model_copy(update={"lora_adapters": there})
    adapters = read_adapters(settings, worker("one-h100-lora").model)
    with importable(), using(Switches()):
        configs = open_library().configs
        lora = configs.TorchLlmArgs(
            **llm_arguments(settings, fake_model(), configs, adapters)
        ).lora_config

    assert [one.name for one in adapters] == ["support-tone", "text-to-sql"]
    assert all(path == Path("/models/adapters") / name for name, path in named.items())
    assert (lora.max_lora_rank, lora.max_loras, lora.max_cpu_loras) == (32, 2, 2)


@pytest.mark.parametrize("name", MODELS)
def test_table_of_sizes(name: str) -> None:
    """The README's sizes are those that its text computes, and every longest request fits."""
    engine, shape = worker(name).tensorrt_llm, MODELS[name]
    weights = shape.weight_bytes / GPUS[name]
    heads = max(1, shape.key_value_heads // engine.tensor_parallel)
    a_token = shape.layers // engine.pipeline_parallel * heads * 128 * 2 * shape.value_bytes
    fraction = engine.kv_cache.free_memory_fraction
    tokens = (H100_BYTES - weights - OTHER_BYTES) * fraction / a_token

    row = re.search(rf"^\| `{name}\.toml` .*$", README, re.MULTILINE)
    assert row is not None
    told = [cell.strip().replace(",", "") for cell in row[0].strip("|").split("|")][3:]
    assert told[0] == f"{weights / 1e9:.1f}"
    assert told[1] == str(a_token)
    assert float(told[2]) == pytest.approx(tokens, abs=1000)
    assert engine.max_seq_len is not None
    assert engine.max_seq_len < tokens


def test_variables_of_the_launcher_are_not_read() -> None:
    """No module of ours names a variable that the launcher strips: rank 0 runs without them."""
    files = [file for folder in ("headrace", "worker") for file in (ROOT / folder).rglob("*.py")]
    assert len(files) > 100
    named = re.compile(rf"['\"](?:{'|'.join(STRIPPED)})")
    assert [str(file) for file in files if named.search(file.read_text())] == []


def test_commands_name_files_that_exist() -> None:
    """Each settings file that a command of the README names is there."""
    named = re.findall(r"/etc/headrace/([\w-]+\.toml)", README)
    assert len(named) >= 4
    assert all((FOLDER / name).is_file() for name in named)

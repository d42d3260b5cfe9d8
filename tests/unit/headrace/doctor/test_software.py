"""CUDA, MPI, torch and TensorRT-LLM: asked in children, judged by what they answered."""

import json
from typing import Any

import pytest

from headrace.doctor.children import Answer, Ended
from headrace.doctor.cuda import ask_cuda, find_toolkit, judge_cuda, judge_toolkit
from headrace.doctor.library import ask_library, judge_build, judge_library
from headrace.doctor.mpi import ask_mpi, find_mpirun, judge_mpi, judge_mpirun
from headrace.doctor.torch import ask_torch, judge_torch
from tests.support.gpu_machine import GpuMachine
from tests.support.tensorrt_llm import LIBRARY, TORCH

_MISSING = "ended with exit code 1: ModuleNotFoundError: No module named '{}'"
_TORCH = {"version": "2.9.1+cu130", "cuda": "13.0", "num_gpus": 8, "free_bytes": [1] * 8}


def _build(**changes: Any) -> dict[str, Any]:
    keywords = ["inputs", "sampling_params", "streaming", "cache_salt", "_postproc_params"]
    return {
        "version": "1.2.1",
        "keywords": keywords,
        "has_check_health": False,
        "has_grpc": False,
        **changes,
    }


def test_cuda_is_started(machine: GpuMachine) -> None:
    """By the driver's own library."""
    machine.cuda(13000)

    finding = judge_cuda(ask_cuda())

    assert (finding.verdict, finding.text) == ("ok", "the driver knows CUDA 13.0")


@pytest.mark.parametrize(
    ("version", "status", "text", "remedy"),
    [
        (12090, 0, "the driver knows CUDA 12.9, TensorRT-LLM 1.2 needs 13.0", "driver 580"),
        (13000, 802, "13.0, but cuInit fails with error 802", "nvidia-fabricmanager"),
        (13000, 100, "cuInit fails with error 100", "--gpus"),
        (13000, 999, "cuInit fails with error 999", "dmesg"),
    ],
)
def test_cuda_that_does_not_do_fails(
    machine: GpuMachine, version: int, status: int, text: str, remedy: str
) -> None:
    """With the remedy of its error."""
    machine.cuda(version, status)

    finding = judge_cuda(ask_cuda())

    assert finding.verdict == "fail"
    assert text in finding.text
    assert remedy in finding.remedy


def test_a_library_without_cuda_is_told(machine: GpuMachine) -> None:
    """A file of the name that is none."""
    (machine.lib / "libcuda.so.1").write_text("no library", encoding="utf-8")

    assert "cannot be loaded: its trial ended" in judge_cuda(ask_cuda()).text


def test_the_toolkit_is_found_by_its_compiler(machine: GpuMachine) -> None:
    """Its release is what counts."""
    machine.says("nvcc", "Cuda compilation tools, release 13.1, V13.1.80\n")

    assert find_toolkit() == "13.1"


@pytest.mark.parametrize(("release", "verdict"), [("13.1", "ok"), ("12.8", "warn"), (None, "warn")])
def test_the_toolkit_is_never_a_failure(release: str | None, verdict: str) -> None:
    """The library loads without it."""
    assert judge_toolkit(release).verdict == verdict


def test_mpi_is_started_and_named(machine: GpuMachine) -> None:
    """Both versions."""
    machine.mpi()

    mpi, mpirun = judge_mpi(ask_mpi()), judge_mpirun(find_mpirun())

    assert (mpi.verdict, mpi.text) == ("ok", "Open MPI v5.0.10, mpi4py 4.1.1")
    assert (mpirun.verdict, mpirun.text) == ("ok", "mpirun (Open MPI) 5.0.10")


@pytest.mark.parametrize(
    ("answer", "verdict", "text"),
    [
        (Answer(None, _MISSING.format("mpi4py")), "fail", "mpi4py is not installed"),
        (Answer(None, "gave no answer within 60 s"), "fail", "it gave no answer within 60 s"),
        (Answer({"mpi4py": "4", "library": "MPICH Version: 4.2"}), "warn", "made for OpenMPI"),
    ],
)
def test_mpi_that_does_not_do_is_told(answer: Answer, verdict: str, text: str) -> None:
    """Missing, stuck, or another one's."""
    finding = judge_mpi(answer)

    assert finding.verdict == verdict
    assert text in finding.text
    assert finding.remedy


def test_mpirun_is_needed_by_several_machines_only() -> None:
    """Its absence is a warning."""
    assert judge_mpirun(Ended("", "mpirun is not on the PATH", is_missing=True)).verdict == "warn"


def test_torch_is_asked_for_what_it_sees(
    machine: GpuMachine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its version, and the GPUs with their free memory."""
    machine.install(monkeypatch, LIBRARY, TORCH)
    monkeypatch.setenv("TENSORRT_LLM_DOUBLE", json.dumps({"gpus": 2}))

    facts = ask_torch().facts

    assert facts is not None
    assert (facts["version"], facts["num_gpus"]) == ("2.9.1", 2)
    assert facts["free_bytes"] == [80 << 30] * 2


@pytest.mark.parametrize(
    ("answer", "needed", "verdict"),
    [
        (Answer(_TORCH), 8, "ok"),
        (Answer({**_TORCH, "version": "2.10.0a0+b4e4ee8"}), 1, "ok"),
        (Answer({**_TORCH, "version": "2.7.1"}), 1, "warn"),
        (Answer({**_TORCH, "num_gpus": 1}), 2, "fail"),
        (Answer({**_TORCH, "cuda": None, "num_gpus": 0}), 1, "fail"),
        (Answer(None, _MISSING.format("torch")), 1, "fail"),
        (Answer(None, "was killed by SIGSEGV"), 1, "fail"),
    ],
)
def test_torch_must_see_the_gpus(answer: Answer, needed: int, verdict: str) -> None:
    """As many as the settings need here."""
    finding = judge_torch(answer, needed)

    assert finding.verdict == verdict
    assert verdict == "ok" or finding.remedy


@pytest.mark.parametrize("missing", [[], ["cache_salt", "trace_headers"]])
@pytest.mark.parametrize("has_check_health", [True, False])
def test_the_library_is_read_by_its_signature(
    machine: GpuMachine,
    monkeypatch: pytest.MonkeyPatch,
    missing: list[str],
    *,
    has_check_health: bool,
) -> None:
    """Builds of one version differ."""
    machine.install(monkeypatch, LIBRARY)
    switches = {"missing_keywords": missing, "has_check_health": has_check_health}
    monkeypatch.setenv("TENSORRT_LLM_DOUBLE", json.dumps(switches))

    answer = ask_library()

    assert answer.facts is not None
    assert judge_library(answer).text == "1.2.1"
    assert ("cache_salt" in answer.facts["keywords"]) == ("cache_salt" not in missing)
    assert answer.facts["has_check_health"] == has_check_health
    assert answer.facts["has_grpc"] is False


def test_a_library_that_crashes_is_a_finding(machine: GpuMachine) -> None:
    """Its import takes its own process down, not the doctor."""
    machine.module("tensorrt_llm", "import os\nos.abort()\n")

    finding = judge_library(ask_library())

    assert (finding.verdict, finding.text) == ("fail", "its import was killed by SIGABRT")


def test_a_library_that_hangs_is_a_finding(machine: GpuMachine) -> None:
    """Its deadline ends it."""
    machine.module("tensorrt_llm", "import time\ntime.sleep(600)\n")

    finding = judge_library(ask_library(1.5))

    assert finding.text == "its import gave no answer within 1.5 s"


def test_a_missing_library_is_told_apart_from_a_broken_one(machine: GpuMachine) -> None:
    """One is installed, the other mended."""
    missing = judge_library(ask_library())
    machine.module("tensorrt_llm", "import bindings_of_it\n")
    broken = judge_library(ask_library())

    assert missing.text == "it is not installed"
    assert broken.text.endswith("No module named 'bindings_of_it'")
    assert missing.remedy != broken.remedy


def test_another_release_is_a_warning() -> None:
    """It may work."""
    assert judge_library(Answer(_build(version="1.3.0rc5"))).verdict == "warn"


def test_a_build_is_told_by_what_it_takes() -> None:
    """What is always there is not told."""
    text = judge_build(_build(has_check_health=True)).text

    assert text == (
        "generate_async takes cache_salt; _check_health there; own gRPC not there (not needed)"
    )


def test_a_build_without_the_essential_fails() -> None:
    """It is named."""
    finding = judge_build(_build(keywords=["inputs", "sampling_params"]))

    assert (finding.verdict, finding.text) == ("fail", "generate_async does not take streaming")

"""The whole examination: every probe in its order, on machines that have all, or nothing."""

from pathlib import Path

import pytest

from headrace.doctor.examination import Examination, Patience
from headrace.doctor.finding import has_failed
from tests.support.gpu_machine import H100, GpuMachine, checkpoint


def test_a_complete_machine_passes(
    machine: GpuMachine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Nothing fails; what was found is kept for what comes after."""
    machine.complete(monkeypatch)
    announced: list[str] = []
    examination = Examination(
        world_size=2,
        local_gpus=2,
        model=checkpoint(tmp_path / "m"),
        announce=announced.append,
    )

    examination.find_gpus()
    findings = {finding.name: finding for finding in examination.examine()}

    failures = [finding for finding in findings.values() if finding.verdict == "fail"]
    # How much shared memory there is, is this machine's.
    assert [finding for finding in failures if finding.name != "shared memory"] == []
    assert list(findings) == [
        "gpu 0",
        "gpu 1",
        "driver",
        "gpu use",
        "cuda",
        "cuda toolkit",
        "mpi",
        "mpirun",
        "torch",
        "tensorrt-llm",
        "build",
        "python",
        "host memory",
        "shared memory",
        "limits",
        "model",
        "model fit",
    ]
    assert examination.library is not None
    assert [what.split(",")[0] for what in announced] == [
        "starting MPI",
        "importing torch",
        "importing TensorRT-LLM",
    ]
    assert findings["model fit"].text.endswith("over 2, 80.0 GiB free")


def test_a_machine_without_a_gpu_is_examined_all_the_same(machine: GpuMachine) -> None:
    """Each thing that is missing has its line and its remedy."""
    examination = Examination()

    examination.find_gpus()
    findings = list(examination.examine())

    assert examination.gpus.problem == "nvidia-smi is not on the PATH"
    assert findings[0].text == "none found: nvidia-smi is not on the PATH"
    assert has_failed(findings)
    assert all(finding.remedy for finding in findings if finding.verdict == "fail")
    assert {"cuda", "mpi", "torch", "tensorrt-llm", "shared memory"} <= {f.name for f in findings}


def test_nothing_hangs_the_examination(machine: GpuMachine) -> None:
    """Every command and every library that never answers is given up."""
    for name in ("nvidia-smi", "mpirun", "nvcc"):
        machine.command(name, "exec sleep 600")
    for name in ("mpi4py", "torch", "tensorrt_llm"):
        machine.module(name, "import time\ntime.sleep(600)\n")
    examination = Examination(patience=Patience(command=0.3, library=0.5))

    examination.find_gpus()
    texts = {finding.name: finding.text for finding in examination.examine()}

    assert texts["gpus"] == "none found: nvidia-smi gave no answer within 0.3 s"
    assert texts["torch"] == "its import gave no answer within 0.5 s"
    assert texts["tensorrt-llm"] == "its import gave no answer within 0.5 s"


def test_the_driver_may_be_helped_by_cuda_compat(
    machine: GpuMachine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What libcuda says decides about an older driver."""
    machine.complete(monkeypatch)
    machine.nvidia_smi(H100.replace("580.65.06", "570.133.20"))
    examination = Examination()

    examination.find_gpus()
    driver = next(f for f in examination.examine() if f.name == "driver")

    assert (driver.verdict, "cuda-compat" in driver.text) == ("ok", True)

"""GPUs, driver and other processes: what nvidia-smi says, and what is made of it."""

import pytest

from headrace.doctor.gpus import (
    Gpu,
    GpuFacts,
    GpuProcess,
    find_gpus,
    judge_driver,
    judge_gpus,
    judge_use,
)
from tests.support.gpu_machine import H100, GpuMachine

_MIB = 1 << 20


def _gpu(**changes: object) -> Gpu:
    values = {
        "index": 0,
        "name": "NVIDIA H100 80GB HBM3",
        "driver": "580.65.06",
        "total_bytes": 81559 * _MIB,
        "free_bytes": 81008 * _MIB,
        "capability": (9, 0),
        **changes,
    }
    return Gpu(**values)


def test_gpus_are_read(machine: GpuMachine) -> None:
    """With their memory in bytes, and the processes that use them."""
    machine.nvidia_smi(H100, H100, processes="4711, /usr/bin/python3, 70000\n12, x, [N/A]\n")

    facts = find_gpus()

    assert facts.gpus == (_gpu(), _gpu(index=1))
    assert facts.processes == (
        GpuProcess("4711", "/usr/bin/python3", 70000 * _MIB),
        GpuProcess("12", "x", None),
    )
    assert facts.problem == ""


def test_warnings_between_the_rows_are_passed_over(machine: GpuMachine) -> None:
    """nvidia-smi writes some of them to stdout."""
    warning = "WARNING: infoROM is corrupted at gpu 0000:3B:00.0"
    machine.command("nvidia-smi", f"echo '{warning}'; echo '0, {H100}'; echo '{warning}'")

    assert find_gpus().gpus == (_gpu(),)


def test_what_a_driver_does_not_tell_is_unknown(machine: GpuMachine) -> None:
    """GPUs that share the host's memory have no figure of their own."""
    machine.nvidia_smi("NVIDIA GB10, 580.95.05, [N/A], [Not Supported], 12.1")

    (gpu,) = find_gpus().gpus

    assert (gpu.total_bytes, gpu.free_bytes, gpu.capability) == (None, None, (12, 1))


@pytest.mark.parametrize(
    ("script", "problem"),
    [
        (
            "echo 'NVIDIA-SMI has failed: it cannot communicate with the NVIDIA driver'; exit 9",
            "nvidia-smi ended with exit code 9: NVIDIA-SMI has failed: it cannot communicate",
        ),
        ("exec sleep 600", "nvidia-smi gave no answer within 0.5 s"),
        ("echo No devices were found; exit 6", "exit code 6: No devices were found"),
        ("exit 0", "nvidia-smi lists none"),
        ("echo '<html>, what'", "nvidia-smi answers what is no list of GPUs: '<html>, what'"),
        ("echo 'x, H100, 580.1, 1, 1, 9.0'", "what is no list of GPUs: 'x, H100, 580.1"),
        ("printf '\\377\\000\",,,\\r\\n\"'", "nvidia-smi answers what is no list of GPUs"),
        ("kill -SEGV $$", "nvidia-smi was killed by SIGSEGV"),
    ],
)
def test_no_gpus_are_found_for_a_reason(machine: GpuMachine, script: str, problem: str) -> None:
    """Whatever nvidia-smi does, the doctor goes on and says what it was."""
    machine.command("nvidia-smi", script)

    facts = find_gpus(0.5 if "sleep" in script else 30)

    assert facts.gpus == ()
    assert problem in facts.problem


def test_without_nvidia_smi_there_are_none(machine: GpuMachine) -> None:
    """A machine without a driver."""
    assert find_gpus().problem == "nvidia-smi is not on the PATH"


def test_a_list_of_processes_that_fails_is_empty(machine: GpuMachine) -> None:
    """The GPUs count all the same."""
    machine.command("nvidia-smi", f'case "$1" in *query-gpu*) echo "0, {H100}";; *) exit 1;; esac')

    facts = find_gpus()

    assert len(facts.gpus) == 1
    assert facts.processes == ()


def test_each_gpu_is_one_line() -> None:
    """With what one would look up by hand."""
    (finding,) = judge_gpus(GpuFacts((_gpu(index=3),)))

    assert finding.render() == (
        "ok    gpu 3          NVIDIA H100 80GB HBM3, 79.6 GiB, 79.1 GiB free, "
        "compute capability 9.0\n"
    )


def test_an_old_gpu_fails() -> None:
    """Below Ampere there is no bfloat16."""
    (finding,) = judge_gpus(GpuFacts((_gpu(name="Tesla V100", capability=(7, 0)),)))

    assert (finding.verdict, "7.0: bfloat16 needs 8.0" in finding.text) == ("fail", True)


def test_an_unknown_capability_is_a_warning() -> None:
    """It may do."""
    (finding,) = judge_gpus(GpuFacts((_gpu(capability=None),)))

    assert finding.verdict == "warn"


@pytest.mark.parametrize(
    ("driver", "cuda", "verdict"),
    [
        ("580.65.06", None, "ok"),
        ("590.10", 13010, "ok"),
        ("575.57.08", 12090, "fail"),
        ("570.133.20", 13000, "ok"),
        ("570.133.20", None, "fail"),
    ],
)
def test_the_driver_is_held_to_cuda_13(driver: str, cuda: int | None, verdict: str) -> None:
    """580 or later, or an older one with cuda-compat, which libcuda's version shows."""
    finding = judge_driver(GpuFacts((_gpu(driver=driver),)), cuda)

    assert finding.verdict == verdict
    assert driver in finding.text


def test_the_driver_line_is_what_an_operator_reads() -> None:
    """Version, and what it is held to."""
    finding = judge_driver(GpuFacts((_gpu(),)), 13000)

    assert finding.render() == "ok    driver         580.65.06 (CUDA 13 needs 580)\n"


def test_other_processes_are_named() -> None:
    """Two engines on one GPU hang: the remedy says whom to end."""
    others = tuple(GpuProcess(str(pid), "python3", 1 << 31) for pid in range(10))

    finding = judge_use(GpuFacts((_gpu(),), others))

    assert finding.verdict == "warn"
    assert "python3 (pid 0, 2.0 GiB), python3 (pid 1" in finding.text
    assert finding.text.endswith("and 2 more")


def test_memory_held_by_nobody_that_is_seen_is_a_warning() -> None:
    """Another container's processes are not listed."""
    busy = _gpu(index=1, free_bytes=10_000 * _MIB)

    finding = judge_use(GpuFacts((_gpu(), busy)))

    assert (finding.verdict, "memory of GPU 1 is held" in finding.text) == ("warn", True)


def test_idle_gpus_are_well() -> None:
    """Also those that do not tell their memory."""
    assert judge_use(GpuFacts((_gpu(), _gpu(free_bytes=None)))).verdict == "ok"

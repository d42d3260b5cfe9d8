"""The machine around the GPUs."""

import dataclasses
from pathlib import Path

import pytest

from headrace.doctor.finding import GIB
from headrace.doctor.host import (
    HostFacts,
    Places,
    judge_limits,
    judge_memory,
    judge_python,
    judge_shared_memory,
    read_host,
)

_GOOD = HostFacts(
    python=(3, 12, 3),
    machine="x86_64",
    shared_total=64 * GIB,
    shared_free=63 * GIB,
    memory_total=512 * GIB,
    memory_available=400 * GIB,
    memory_limit=None,
    locked_limit=None,
    stack_limit=64 << 20,
)


def _with(**changes: object) -> HostFacts:
    return dataclasses.replace(_GOOD, **changes)


@pytest.mark.parametrize(
    ("python", "machine", "has_library", "verdict"),
    [
        ((3, 12, 3), "x86_64", False, "ok"),
        ((3, 10, 1), "aarch64", False, "ok"),
        ((3, 11, 9), "x86_64", False, "fail"),
        ((3, 13, 0), "x86_64", False, "fail"),
        ((3, 12, 3), "arm64", False, "fail"),
        ((3, 11, 9), "x86_64", True, "warn"),
    ],
)
def test_python_is_held_to_the_wheels(
    python: tuple[int, int, int], machine: str, *, has_library: bool, verdict: str
) -> None:
    """A library that is there in spite of that was made by somebody else."""
    facts = _with(python=python, machine=machine)

    assert judge_python(facts, has_library=has_library).verdict == verdict


@pytest.mark.parametrize(
    ("total", "free", "num_gpus", "verdict"),
    [
        (64 << 20, 64 << 20, 0, "fail"),
        (GIB, GIB, 1, "ok"),
        (GIB, GIB, 8, "fail"),
        (64 * GIB, 1 << 20, 8, "fail"),
        (None, None, 1, "fail"),
    ],
)
def test_shared_memory_is_a_gibibyte_a_gpu(
    total: int | None, free: int | None, num_gpus: int, verdict: str
) -> None:
    """Containers have 64 MiB unless they are told."""
    finding = judge_shared_memory(_with(shared_total=total, shared_free=free), num_gpus)

    assert finding.verdict == verdict
    assert verdict == "ok" or finding.remedy


def test_a_containers_default_is_told_with_its_remedy() -> None:
    """The line and what to type."""
    text = judge_shared_memory(_with(shared_total=64 << 20, shared_free=60 << 20), 2).render()

    assert text.startswith("FAIL  shared memory  64 MiB, 60 MiB free: 2 GPUs need 2.0 GiB\n")
    assert "        remedy: start the container with `--ipc host --ulimit memlock=-1" in text


@pytest.mark.parametrize(
    ("locked", "stack", "verdict"),
    [
        (None, None, "ok"),
        (None, 64 << 20, "ok"),
        (65536, 64 << 20, "warn"),
        (None, 8 << 20, "warn"),
    ],
)
def test_limits_are_those_of_the_instructions(
    locked: int | None, stack: int | None, verdict: str
) -> None:
    """No bound on locked memory, 64 MiB of stack."""
    finding = judge_limits(_with(locked_limit=locked, stack_limit=stack))

    assert finding.verdict == verdict


@pytest.mark.parametrize(
    ("limit", "weights", "verdict"),
    [
        (None, None, "ok"),
        (None, 140 * GIB, "ok"),
        (None, 401 * GIB, "warn"),
        (128 * GIB, 140 * GIB, "warn"),
        (128 * GIB, None, "ok"),
    ],
)
def test_memory_is_held_to_the_weights(
    limit: int | None, weights: int | None, verdict: str
) -> None:
    """A container's limit counts as much as what is free."""
    finding = judge_memory(_with(memory_limit=limit), weights)

    assert finding.verdict == verdict
    assert ("limited to 128.0 GiB" in finding.text) == (limit is not None)


def test_memory_that_cannot_be_read_is_a_warning() -> None:
    """A machine without /proc."""
    assert judge_memory(_with(memory_total=None), None).verdict == "warn"


def test_everything_is_read_where_linux_shows_it(tmp_path: Path) -> None:
    """The strictest limit of the own control group and those above it counts."""
    own = tmp_path / "groups" / "kubepods" / "pod"
    own.mkdir(parents=True)
    (own / "memory.max").write_text("max\n", encoding="utf-8")
    (own.parent / "memory.max").write_text(f"{7 * GIB}\n", encoding="utf-8")
    (tmp_path / "memory.max").write_text("1\n", encoding="utf-8")
    (tmp_path / "own").write_text("0::/kubepods/pod\n", encoding="utf-8")
    memory = "MemTotal:       2097152 kB\nMemAvailable:   1048576 kB\nHugePages_Total:       0\n"
    (tmp_path / "meminfo").write_text(memory, encoding="utf-8")
    places = Places(tmp_path, tmp_path / "meminfo", tmp_path / "own", tmp_path / "groups")

    facts = read_host(places)

    assert (facts.memory_total, facts.memory_available) == (2 * GIB, GIB)
    assert facts.memory_limit == 7 * GIB
    assert facts.shared_total is not None


def test_the_first_version_of_control_groups_is_read(tmp_path: Path) -> None:
    """Its limit stands in the controller's own folder."""
    (tmp_path / "memory").mkdir()
    (tmp_path / "memory" / "memory.limit_in_bytes").write_text(f"{GIB}\n", encoding="utf-8")
    absent = tmp_path / "absent"

    facts = read_host(Places(absent, absent, absent, tmp_path))

    assert facts.memory_limit == GIB
    assert (facts.shared_total, facts.memory_total) == (None, None)


def test_this_machine_can_be_read() -> None:
    """Whatever it has."""
    facts = read_host()

    assert facts.memory_total is None or facts.memory_total > 0

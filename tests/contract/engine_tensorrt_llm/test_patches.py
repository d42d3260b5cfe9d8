"""No handling of the library's behaviours can be lost unnoticed: each patch turns tests red.

A patched copy of the package `worker` is tested in a process of its own.
"""

import ast
import asyncio
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.contract.engine_tensorrt_llm.patch import ROOT, Patch
from tests.contract.engine_tensorrt_llm.patches import PATCHES

TEST_SECONDS = 8
CHILD_SECONDS = 50
"""Longer than a child takes whose test hangs until its own timeout."""
FAILED = 1
"""pytest's exit code where tests failed; errors of collection and of use have others."""


def _copy(folder: Path) -> Path:
    shutil.copytree(ROOT / "worker", folder / "worker", ignore=shutil.ignore_patterns("*.pyc"))
    return folder


async def _run(folder: Path, tests: Sequence[str]) -> tuple[int, str]:
    """Run tests with the package `worker` that lies in a folder; exit code and output."""
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-P", "-m", "pytest", "-x", "-q", "-rf", "-m", ""),
        *("-p", "pytest_asyncio.plugin", "-p", "pytest_timeout"),
        *("-o", f"timeout={TEST_SECONDS}"),
        *("-o", f"pythonpath={folder} ."),
        *tests,
        cwd=ROOT,
        env={
            **{name: value for name, value in os.environ.items() if not name.startswith("PYTEST")},
            "PYTHONDONTWRITEBYTECODE": "1",
            # Others take longer to load than a test to run.
            "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
        },
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        async with asyncio.timeout(CHILD_SECONDS):
            output, _ = await child.communicate()
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()
    return child.returncode or 0, output.decode()


def test_every_behaviour_has_a_patch() -> None:
    """All twenty."""
    assert {patch.number for patch in PATCHES} == set(range(1, 21))


@pytest.mark.parametrize("patch", PATCHES, ids=lambda patch: f"{patch.number}: {patch.removes}")
def test_a_patch_fits(patch: Patch) -> None:
    """Its text stands in the engine exactly once, what it makes is Python, its tests are there."""
    patched = patch.applied((ROOT / patch.path).read_text(encoding="utf-8"))
    ast.parse(patched)

    assert patch.tests
    for test in patch.tests:
        file, _, name = test.partition("::")
        assert f"def {name}(" in (ROOT / file).read_text(encoding="utf-8") or not name


@pytest.mark.slow
@pytest.mark.timeout(150)
async def test_unpatched_all_are_green(tmp_path: Path) -> None:
    """Those that patches turn red, on a copy that nothing was done to."""
    tests = sorted({test for patch in PATCHES for test in patch.tests})
    code, output = await _run(_copy(tmp_path), tests)

    assert code == 0, output


@pytest.mark.slow
@pytest.mark.parametrize("patch", PATCHES, ids=lambda patch: f"{patch.number}: {patch.removes}")
async def test_a_patch_is_noticed(patch: Patch, tmp_path: Path) -> None:
    """Without this handling a test fails; neither collection nor the run itself does."""
    target = _copy(tmp_path) / patch.path
    target.write_text(patch.applied(target.read_text(encoding="utf-8")), encoding="utf-8")
    for test in patch.tests:
        code, output = await _run(tmp_path, [test])

        assert code == FAILED, output
        assert "\nFAILED " in output, output

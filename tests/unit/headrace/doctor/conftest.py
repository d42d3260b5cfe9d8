"""A machine with GPUs that is none."""

from pathlib import Path

import pytest

from tests.support.gpu_machine import GpuMachine


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> GpuMachine:
    """Installed and empty: no command and no library of a GPU's."""
    made = GpuMachine(tmp_path)
    made.install(monkeypatch)
    return made

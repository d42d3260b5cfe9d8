"""bench.fuzz on the real services with the paced engine."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.model


def _fuzz(cases: int, folder: Path) -> None:
    command = [sys.executable, "-m", "bench.fuzz", "--cases", str(cases), "--out", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    counted = re.search(r"^(\d+) requests, \d+ of them distinct", done.stdout, re.MULTILINE)
    assert counted is not None, done.stdout
    assert int(counted[1]) >= cases
    failures = (folder / "fuzz-failures.jsonl").read_text(encoding="utf-8")
    assert [json.loads(line) for line in failures.splitlines()] == []


def test_some_requests(tmp_path: Path) -> None:
    """Eighty random requests: every answer is one that the document describes."""
    _fuzz(80, tmp_path)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_many_requests(tmp_path: Path) -> None:
    """Two thousand of them."""
    _fuzz(2000, tmp_path)

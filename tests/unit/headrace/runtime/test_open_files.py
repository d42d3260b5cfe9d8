"""The limit of open files, in a process of its own since it holds for all of it."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[4]
PROGRAM = """
import resource, sys
from headrace.runtime.open_files import open_files_limit, raise_open_files_limit
soft, hard = int(sys.argv[1]), int(sys.argv[2])
resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
raise_open_files_limit()
assert open_files_limit() == resource.getrlimit(resource.RLIMIT_NOFILE)[0]
print(*resource.getrlimit(resource.RLIMIT_NOFILE))
"""


@pytest.mark.parametrize(
    ("soft", "hard", "raised"), [(100, 900, 900), (900, 900, 900)], ids=["below", "there"]
)
def test_soft_limit_becomes_the_hard_one(soft: int, hard: int, raised: int) -> None:
    """A process may have as many files open as its operator allows, and changes no more."""
    command = [sys.executable, "-c", PROGRAM, str(soft), str(hard)]
    output = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)

    assert output.stdout.split() == [str(raised), str(hard)]

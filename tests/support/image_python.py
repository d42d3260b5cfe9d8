"""Interpreters that stand for an image's: virtual environments of the images' Python."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

IMAGES_PYTHON = (3, 12)
_LIST = (
    "import json; from importlib.metadata import distributions as all;"
    "print(json.dumps({one.name.lower().replace('_', '-'): one.version for one in all()}))"
)
_STARTS = f"import ensurepip, sys; sys.exit(sys.version_info[:2] != {IMAGES_PYTHON})"


@cache
def images_python() -> str | None:
    """An interpreter of the images' version that can make environments; None without one."""
    return next(filter(_starts, _candidates()), None)


def _candidates() -> Iterator[str]:
    name = f"python{IMAGES_PYTHON[0]}.{IMAGES_PYTHON[1]}"
    yield sys.executable
    for folder in os.get_exec_path():
        yield from filter(None, [shutil.which(name, path=folder)])
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    yield from map(str, sorted(pyenv.glob(f"versions/*/bin/{name}")))


def _starts(python: str) -> bool:
    return subprocess.run([python, "-c", _STARTS], capture_output=True, check=False).returncode == 0


class ImagePython:
    """A virtual environment without pip; `python` makes it and has the pip that installs there."""

    def __init__(self, folder: Path, python: str) -> None:
        self.folder = folder
        self.python = python
        self.target = str(folder / "bin" / "python")
        subprocess.run([python, "-m", "venv", "--without-pip", folder], check=True)

    def pip(self, *arguments: str) -> None:
        """Run pip for it."""
        pip = (self.python, "-m", "pip", "--no-input", "--python", self.target, *arguments)
        subprocess.run(pip, check=True)

    def add(self, wheels: Iterable[Path]) -> None:
        """Install these files, and nothing that they need."""
        self.pip("install", "--quiet", "--no-deps", "--no-index", *map(str, wheels))

    def packages(self) -> dict[str, str]:
        """Versions by name."""
        found: dict[str, str] = json.loads(self.run("-c", _LIST).stdout)
        return found

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run it as the images do, outside of any folder of ours; its output is text."""
        environment = os.environ | {"PYTHONSAFEPATH": "1", "PYTHONDONTWRITEBYTECODE": "1"}
        environment.pop("PYTHONPATH", None)
        return subprocess.run(
            [self.target, *arguments],
            cwd="/",
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        )

    def files(self) -> set[str]:
        """Everything in its folder."""
        return {str(path.relative_to(self.folder)) for path in self.folder.rglob("*")}

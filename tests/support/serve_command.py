"""A running `headrace serve` on free ports, its children, and what it printed."""

import os
import re
import select
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[2]
END_SECONDS = 30
COMMAND = [
    *(sys.executable, "-m", "headrace", "serve", "--engine", "paced"),
    *("--port", "0", "--tokenizer-port", "0", "--worker-port", "0"),
]
STARTED = r"^starting (.+) on \S+ \(pid (\d+)\)$"


@dataclass
class Served:
    """A running `headrace serve`: its curl line, and a pidfd for each child by name."""

    process: subprocess.Popen[str]
    log: Path
    curl: str = ""
    children: dict[str, int] = field(default_factory=dict)

    def wait(self) -> int:
        return self.process.wait(END_SECONDS)

    def surviving(self, seconds: float = 0) -> list[str]:
        """Children that have not ended within so many seconds."""
        alive = dict(self.children)
        while alive:
            ended, _, _ = select.select(list(alive.values()), [], [], seconds)
            if not ended:
                return list(alive)
            alive = {name: pidfd for name, pidfd in alive.items() if pidfd not in ended}
        return []


@contextmanager
def serving(log: Path, *arguments: str, python_path: str = str(ROOT)) -> Iterator[Served]:
    with (
        log.open("w") as stderr,
        subprocess.Popen(
            [*COMMAND, *arguments],
            cwd=ROOT,
            env=os.environ | {"PYTHONPATH": python_path},
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
        ) as process,
    ):
        served = Served(process, log)
        try:
            assert process.stdout is not None
            for line in process.stdout:
                if line.startswith("curl "):
                    served.curl = line
                    break
            started = re.findall(STARTED, log.read_text(), re.MULTILINE)
            served.children = {name: os.pidfd_open(int(pid)) for name, pid in started}
            yield served
        finally:
            process.kill()
            for pidfd in served.children.values():
                os.close(pidfd)

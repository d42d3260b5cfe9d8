"""Programs that run beside the command: converters and trials take memory and print what they like.

A child refuses a model by its last line and an exit code of its own; whatever else it fails with is
told with its last line, too.
"""

import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from headrace.models.refusal import UnservableError
from headrace.runtime.errors import StartError
from headrace.runtime.progress import Progress

_POLL_SECONDS = 0.25
_REFUSED = 3


def refusing(program: Callable[[], None]) -> int:
    """Run the child's work; gives its exit code and writes a refusal as the last line."""
    try:
        program()
    except UnservableError as error:
        # On one line, whatever a library's message has in it.
        sys.stderr.write(f"\n{' '.join(str(error).split())}\n")
        return _REFUSED
    return 0


def run_module(
    module: str, arguments: Sequence[str], log: Path, progress: Progress, what: str
) -> None:
    """Run `python -m module` to its end, with its output in `log`.

    Raises UnservableError for its refusal, StartError that begins with `what` for a failure.
    """
    # -P: a folder that happens to be current must not shadow a library.
    status = run_command([sys.executable, "-P", "-m", module, *arguments], log, progress)
    if status:
        lines = log.read_text(errors="replace").strip().splitlines() or [f"exit status {status}"]
        if status == _REFUSED:
            raise UnservableError(lines[-1])
        hint = ": install headrace[openvino]" if "ModuleNotFoundError" in lines[-1] else ""
        if status < 0:
            hint = f" (killed by signal {-status}: too little memory?)"
        raise StartError(f"{what} failed{hint}: {lines[-1]}")


def run_command(
    command: Sequence[str], log: Path, progress: Progress, detail: Callable[[], str] = str
) -> int:
    """Run a child to its end with its output in `log`; the child never outlives this call."""
    with log.open("w") as output:
        child = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)  # noqa: S603 (our own arguments)
        try:
            while True:
                try:
                    return child.wait(timeout=_POLL_SECONDS)
                except subprocess.TimeoutExpired:
                    progress.tick(detail())
        finally:
            child.kill()
            child.wait()

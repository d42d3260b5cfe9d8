"""Commands and programs that are asked something, and may hang, crash or talk nonsense instead.

A child leads a session of its own and is killed with all that it started when its time is over, or
when whoever waits is interrupted. A killed child that still does not end (one that waits within a
broken driver cannot) is left behind: nothing here waits without an end.
"""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, Any

from headrace.runtime.errors import StartError

_POLL_SECONDS = 0.1
_REAP_SECONDS = 2.0
_MAX_OUTPUT_BYTES = 1 << 20
_MAX_LINE_CHARACTERS = 300

Tick = Callable[[], None]


@dataclass(frozen=True, slots=True)
class Ended:
    """How a command ended; `problem` is a clause that says what went wrong, "" where nothing did.

    `is_missing`: there is no such command.
    """

    output: str
    problem: str = ""
    is_missing: bool = False


@dataclass(frozen=True, slots=True)
class Answer:
    """What a program answered: facts, or the problem that kept it from answering."""

    facts: dict[str, Any] | None
    problem: str = ""


def run_command(command: Sequence[str], seconds: float, tick: Tick | None = None) -> Ended:
    """Run a command for at most `seconds`; `output` is what it wrote to stdout.

    Raises StartError where nothing temporary can be kept.
    """
    with _folder() as folder:
        log, errors = folder / "stdout", folder / "stderr"
        with log.open("wb") as output, errors.open("wb") as diagnostics:
            try:
                status = _run(command, output, diagnostics, seconds, tick)
            except FileNotFoundError:
                return Ended("", f"{command[0]} is not on the PATH", is_missing=True)
            except OSError as error:
                return Ended("", f"{command[0]} cannot be run: {error.strerror}")
        text = _read(log)
        return Ended(text, _problem(status, seconds, _read(errors) + text))


def ask_program(
    module: str,
    arguments: Sequence[str],
    seconds: float,
    tick: Tick | None = None,
    log: Path | None = None,
) -> Answer:
    """Run `python -m module` (a program of `answering.answer_with`) for at most `seconds`.

    All that it writes goes to the file `log`, if one is named. Raises OSError where it cannot.
    """
    with _folder() as folder:
        log, answer = log or folder / "log", folder / "answer"
        # -P: a folder that happens to be current must not shadow a library.
        program = [sys.executable, "-P", "-m", module, str(answer), str(os.getpid())]
        with log.open("wb") as output:
            status = _run([*program, *arguments], output, subprocess.STDOUT, seconds, tick)
        problem = _problem(status, seconds, _read(log))
        # A library may crash in its own end, when all that was asked has been answered.
        if answer.is_file():
            return Answer(json.loads(answer.read_bytes()), problem)
        return Answer(None, problem or "ended without an answer")


@contextmanager
def _folder() -> Iterator[Path]:
    """For as long as the block runs; a child that is left behind may still write into it."""
    try:
        temporary = TemporaryDirectory(prefix="headrace-doctor-", ignore_cleanup_errors=True)
    except OSError as error:
        raise StartError(f"the doctor needs a folder for temporary files: {error}") from error
    with temporary as name:
        yield Path(name)


def _run(
    command: Sequence[str],
    output: IO[bytes],
    errors: IO[bytes] | int,
    seconds: float,
    tick: Tick | None,
) -> int | None:
    """The exit status; None when the time was over. Raises OSError."""
    # Into files: a pipe would also wait for whatever a child leaves behind with the pipe in hand.
    child: subprocess.Popen[bytes] | None = None
    try:
        with _signals_later():
            child = subprocess.Popen(  # noqa: S603 (our own arguments)
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=errors,
                start_new_session=True,
            )
        return _wait(child, time.monotonic() + seconds, tick)
    finally:
        if child is not None:
            _end(child)


@contextmanager
def _signals_later() -> Iterator[None]:
    """An interruption comes after the block: within it a child has started that nobody knows yet.

    Only the main thread is ever interrupted.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    python_handlers = {number: handler for number, handler in handlers.items() if callable(handler)}
    for number in python_handlers:
        signal.signal(number, lambda number, _frame: came.append(number))
    try:
        yield
    finally:
        for number, handler in python_handlers.items():
            signal.signal(number, handler)
    for caught in came:
        signal.raise_signal(caught)


def _end(child: "subprocess.Popen[bytes]") -> None:
    """With all that it started; returns even where it cannot end."""
    with suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
    with suppress(subprocess.TimeoutExpired):
        child.wait(_REAP_SECONDS)


def _wait(child: "subprocess.Popen[bytes]", deadline: float, tick: Tick | None) -> int | None:
    while (left := deadline - time.monotonic()) > 0:
        with suppress(subprocess.TimeoutExpired):
            return child.wait(min(left, _POLL_SECONDS))
        if tick is not None:
            tick()
    return None


def _problem(status: int | None, seconds: float, said: str) -> str:
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    last = f": {lines[-1][:_MAX_LINE_CHARACTERS]}" if lines else ""
    if status is None:
        return f"gave no answer within {seconds:g} s"
    if status < 0:
        return f"was killed by {_signal_name(-status)}{last}"
    return f"ended with exit code {status}{last}" if status else ""


def _signal_name(number: int) -> str:
    """Signals for programs' own use have numbers only."""
    known = {item.value: item.name for item in signal.Signals}
    return known.get(number, f"signal {number}")


def _read(file: Path) -> str:
    """The end of a file, which may be long: libraries talk a lot."""
    with file.open("rb") as stream:
        size = stream.seek(0, os.SEEK_END)
        stream.seek(max(0, size - _MAX_OUTPUT_BYTES))
        return stream.read().decode(errors="replace")

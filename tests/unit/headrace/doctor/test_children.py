"""Children that answer, fail, hang, crash, and leave others behind."""

import os
import select
from pathlib import Path

import pytest

from headrace.doctor.children import ask_program, run_command
from headrace.runtime.errors import StartError
from tests.support.gpu_machine import GpuMachine


def test_a_command_gives_its_output(machine: GpuMachine) -> None:
    """Without a problem where it ended well."""
    machine.says("question", "forty-two\n")

    ended = run_command(["question"], 20)

    assert (ended.output, ended.problem, ended.is_missing) == ("forty-two\n", "", False)


def test_a_failed_command_is_told_by_its_last_line(machine: GpuMachine) -> None:
    """And by its exit code."""
    machine.command("question", "echo first >&2; echo 'no such device' >&2; exit 9")

    assert run_command(["question"], 20).problem == "ended with exit code 9: no such device"


def test_a_missing_command_is_told_apart(machine: GpuMachine) -> None:
    """Its absence is not a failure of its own."""
    ended = run_command(["question"], 20)

    assert (ended.problem, ended.is_missing) == ("question is not on the PATH", True)


def test_a_command_that_is_none_is_no_crash(machine: GpuMachine) -> None:
    """The system's words are kept."""
    machine.bin.joinpath("question").write_text("x", encoding="utf-8")
    machine.bin.joinpath("question").chmod(0o755)

    assert "cannot be run: Exec format error" in run_command(["question"], 20).problem


def test_a_hanging_command_is_ended_with_all_that_it_started(
    machine: GpuMachine, tmp_path: Path
) -> None:
    """Its own child is dead when the call returns, although it ignores SIGTERM."""
    pid_file = tmp_path / "pid"
    machine.command(
        "question",
        f"trap '' TERM; sh -c 'trap \"\" TERM; while :; do sleep 60; done' & "
        f"echo $! > {pid_file}.part; mv {pid_file}.part {pid_file}; wait",
    )

    ended = run_command(["question"], 3)

    assert ended.problem == "gave no answer within 3 s"
    assert _has_ended(int(pid_file.read_text(encoding="utf-8")))


def test_an_interrupt_ends_the_child(machine: GpuMachine, tmp_path: Path) -> None:
    """Ctrl-C reaches this process alone, which takes its children with it."""
    pid_file = tmp_path / "pid"
    machine.command(
        "question",
        f"echo $$ > {pid_file}.part; mv {pid_file}.part {pid_file}; exec sleep 600",
    )

    def interrupt() -> None:
        if pid_file.exists():
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_command(["question"], 20, interrupt)

    assert _has_ended(int(pid_file.read_text(encoding="utf-8")))


def test_a_program_answers_whatever_it_prints(machine: GpuMachine) -> None:
    """Its facts do not travel with its output, and the end of its libraries does not count."""
    machine.module("program", _PROGRAM.format(body="print('{\"a\": 3}'); return {'a': 1}"))

    answer = ask_program("program", [], 30)

    assert (answer.facts, answer.problem) == ({"a": 1}, "")


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        ("raise OSError('libmpi.so.40: not found')", "exit code 1: OSError: libmpi.so.40: not"),
        ("print('bye'); sys.stdout.flush(); os.abort()", "was killed by SIGABRT: bye"),
        ("os.kill(os.getpid(), 40)", "was killed by signal 40"),
        ("os._exit(0)", "ended without an answer"),
        ("time.sleep(60)", "gave no answer within 1 s"),
    ],
)
def test_a_program_that_crashes_is_one_clause(machine: GpuMachine, body: str, problem: str) -> None:
    """However it ended, there is something to tell."""
    machine.module("program", _PROGRAM.format(body=body))

    answer = ask_program("program", [], 1 if "sleep" in body else 30)

    assert answer.facts is None
    assert problem in answer.problem


def test_what_a_program_writes_can_be_kept(machine: GpuMachine, tmp_path: Path) -> None:
    """In the file that was named."""
    machine.module("program", _PROGRAM.format(body="print(arguments, flush=True); return {}"))

    ask_program("program", ["7"], 30, log=tmp_path / "log")

    assert (tmp_path / "log").read_text(encoding="utf-8") == "['7']\n"


def test_without_a_place_for_temporary_files_it_says_so(
    machine: GpuMachine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """One sentence."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "absent"))

    with pytest.raises(StartError, match="needs a folder for temporary files"):
        run_command(["cat"], 20)


def test_a_program_is_not_shadowed_by_the_current_folder(
    machine: GpuMachine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file of the same name in the folder where the command is run stays unread."""
    machine.module("program", _PROGRAM.format(body="return {'from': 'the path'}"))
    (tmp_path / "program.py").write_text("raise SystemExit(5)\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)

    assert ask_program("program", [], 30).facts == {"from": "the path"}


_PROGRAM = """
import os, sys, time
from headrace.doctor.answering import answer_with

def facts(arguments):
    {body}

answer_with(facts)
"""


def _has_ended(pid: int) -> bool:
    """Within half a minute; a signal takes its time."""
    try:
        process = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([process], [], [], 30)[0])
    finally:
        os.close(process)

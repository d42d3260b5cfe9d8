import asyncio
import os
import signal
import subprocess
import sys

import pytest

from headrace.runtime.errors import StartError
from headrace.runtime.lifecycle import run_service


def test_a_service_that_returns_ends_with_0() -> None:
    """An ordered end is exit code 0, and the loop is uvloop's."""
    loops: list[str] = []

    async def run(settings: str, _stop: asyncio.Event) -> None:
        loops.append(type(asyncio.get_running_loop()).__module__ + settings)

    assert run_service(run, "!") == 0
    assert loops == ["uvloop!"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_sets_the_stop_event(number: signal.Signals) -> None:
    """SIGINT and SIGTERM ask for an ordered stop instead of ending the process."""

    async def run(_settings: None, stop: asyncio.Event) -> None:
        os.kill(os.getpid(), number)
        await stop.wait()

    assert run_service(run, None) == 0


def test_a_start_error_is_one_sentence_and_1(capsys: pytest.CaptureFixture[str]) -> None:
    """What prevents a start is one line on stderr, no traceback."""

    async def run(_settings: None, _stop: asyncio.Event) -> None:
        raise StartError("port 1 is taken")

    assert run_service(run, None) == 1
    assert capsys.readouterr().err == "headrace: port 1 is taken\n"


def test_a_start_error_of_a_task_group_is_found(capsys: pytest.CaptureFixture[str]) -> None:
    """A sentence raised by a task of a group is shown like any other."""

    async def fail() -> None:
        raise StartError("no model")

    async def run(_settings: None, _stop: asyncio.Event) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(fail())

    assert run_service(run, None) == 1
    assert capsys.readouterr().err == "headrace: no model\n"


def test_another_error_is_not_hidden() -> None:
    """A bug keeps its traceback."""

    async def run(_settings: None, _stop: asyncio.Event) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run_service(run, None)


SLOW = """
import asyncio
from headrace.runtime.lifecycle import run_service

async def run(settings, stop):
    print("up", flush=True)
    await stop.wait()
    print("draining", flush=True)
    await asyncio.Event().wait()

run_service(run, None)
"""


def test_the_second_signal_ends_at_once() -> None:
    """A drain that takes too long is cut short by a second signal."""
    with subprocess.Popen([sys.executable, "-c", SLOW], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"up\n"
        process.terminate()
        while process.stdout.readline() != b"draining\n":
            assert process.poll() is None
        process.send_signal(signal.SIGINT)

        assert process.wait(10) == 128 + signal.SIGINT

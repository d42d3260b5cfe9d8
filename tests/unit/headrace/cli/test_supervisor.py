"""Children are tiny stand-ins that report by a socket when they are up and when they are told."""

import asyncio
import os
import select
import signal
import sys
from collections import defaultdict
from collections.abc import AsyncIterator
from functools import partial
from io import StringIO

import pytest

from headrace.cli.child import ChildSpec
from headrace.cli.supervisor import Supervisor
from headrace.runtime.errors import StartError
from headrace.runtime.progress import Progress

STAND_IN = """
import os, signal, socket, subprocess, sys
name, port, mode = sys.argv[1:]
if mode == "fails":
    print("log line", flush=True)
    print("headrace: no model", file=sys.stderr, flush=True)
    sys.exit(1)
peer = socket.create_connection(("127.0.0.1", int(port)))
say = lambda word: peer.sendall(f"{name} {word} {os.getpid()}\\n".encode())
def on_term(*_):
    say("told")
    if mode != "stubborn":
        sys.exit(0)
signal.signal(signal.SIGTERM, on_term)
if mode == "parent":
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    peer.sendall(f"{name}-child up {child.pid}\\n".encode())
say("up")
while True:
    signal.pause()
"""


class Reports:
    """What the stand-ins said, in order of arrival, and their pids."""

    def __init__(self) -> None:
        self.port = 0
        self.lines: list[str] = []
        self.pids: dict[str, int] = {}
        self.events: defaultdict[str, asyncio.Event] = defaultdict(asyncio.Event)

    async def on_connection(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        while line := (await reader.readline()).decode():
            name, word, pid = line.split()
            self.lines.append(f"{name} {word}")
            self.pids[name] = int(pid)
            self.events[f"{name} {word}"].set()
        writer.close()

    async def wait(self, line: str) -> None:
        await self.events[line].wait()

    def spec(self, name: str, mode: str = "", *, rank: int = 0, stop: float = 20) -> ChildSpec:
        return ChildSpec(
            name=name,
            address=f"place of {name}",
            command=(sys.executable, "-c", STAND_IN, name, str(self.port), mode),
            probe=partial(self.wait, f"{name} up"),
            rank=rank,
            stop_seconds=stop,
        )

    def told(self) -> list[str]:
        return [line.removesuffix(" told") for line in self.lines if line.endswith(" told")]


@pytest.fixture
async def reports() -> AsyncIterator[Reports]:
    found = Reports()
    async with await asyncio.start_server(found.on_connection, "127.0.0.1", 0) as server:
        found.port = server.sockets[0].getsockname()[1]
        yield found


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


async def supervise(
    specs: list[ChildSpec],
    stop: asyncio.Event,
    on_ready: asyncio.Event | None = None,
    start_seconds: float = 30,
) -> str:
    """Run to the end; returns what was shown."""
    stream = StringIO()
    supervisor = Supervisor(specs, Progress(stream), start_seconds=start_seconds)
    await supervisor.run(stop, (on_ready or asyncio.Event()).set)
    return stream.getvalue()


async def test_ends_higher_ranks_first_and_leaves_none(reports: Reports) -> None:
    """Each rank has ended before the next is told to: edge, then workers, then tokenizer."""
    specs = [
        reports.spec("tokenizer"),
        reports.spec("worker1", rank=1),
        reports.spec("worker2", rank=1),
        reports.spec("edge", rank=2),
    ]
    stop, ready = asyncio.Event(), asyncio.Event()
    running = asyncio.create_task(supervise(specs, stop, ready))
    await ready.wait()
    stop.set()
    await running

    first, *middle, last = reports.told()
    assert (first, sorted(middle), last) == ("edge", ["worker1", "worker2"], "tokenizer")
    assert not [pid for pid in reports.pids.values() if is_alive(pid)]


async def test_a_child_that_cannot_start_is_named_with_its_sentence(reports: Reports) -> None:
    """The child's own sentence is part of ours, once, and the others have ended."""
    specs = [reports.spec("tokenizer"), reports.spec("worker", "fails", rank=1)]
    with pytest.raises(
        StartError, match=r"worker on place of worker \(pid \d+\) ended with exit code 1: no model"
    ):
        await supervise(specs, asyncio.Event())

    assert not [pid for pid in reports.pids.values() if is_alive(pid)]


async def test_a_child_that_dies_later_ends_all(reports: Reports) -> None:
    """A child killed while everything serves is named with its signal; the others end in order."""
    specs = [reports.spec("tokenizer"), reports.spec("edge", rank=2)]
    ready = asyncio.Event()
    running = asyncio.create_task(supervise(specs, asyncio.Event(), ready))
    await ready.wait()
    os.kill(reports.pids["tokenizer"], signal.SIGKILL)

    with pytest.raises(StartError, match=r"tokenizer .* was killed by SIGKILL"):
        await running
    assert reports.told() == ["edge"]
    assert not [pid for pid in reports.pids.values() if is_alive(pid)]


async def test_a_child_that_does_not_end_is_killed(reports: Reports) -> None:
    """SIGKILL follows where SIGTERM was not enough, and is reported."""
    stop, ready = asyncio.Event(), asyncio.Event()
    running = asyncio.create_task(
        supervise([reports.spec("worker", "stubborn", stop=0.2)], stop, ready)
    )
    await ready.wait()
    stop.set()

    assert "worker did not end within 0 s: killed" in await running
    assert not is_alive(reports.pids["worker"])


async def test_what_a_child_has_started_ends_with_it(reports: Reports) -> None:
    """A child's own children are ended even where it ends by itself."""
    stop, ready = asyncio.Event(), asyncio.Event()
    running = asyncio.create_task(supervise([reports.spec("worker", "parent")], stop, ready))
    await ready.wait()
    grandchild = os.pidfd_open(reports.pids["worker-child"])
    stop.set()
    await running

    # The signal has been sent when `run` returns; the kernel ends the process a moment later.
    ended, _, _ = select.select([grandchild], [], [], 10)
    os.close(grandchild)
    assert ended


async def test_a_stop_while_starting_ends_what_was_started(reports: Reports) -> None:
    """Ctrl-C does not wait for readiness: nothing is announced, nothing is left."""
    stop, ready = asyncio.Event(), asyncio.Event()
    never = ChildSpec("edge", "x", reports.spec("edge").command, asyncio.Event().wait, 1, 20)  # type: ignore[arg-type]
    running = asyncio.create_task(supervise([reports.spec("worker"), never], stop, ready))
    await reports.wait("worker up")
    await reports.wait("edge up")
    stop.set()
    await running

    assert not ready.is_set()
    assert not [pid for pid in reports.pids.values() if is_alive(pid)]


async def test_a_child_that_never_becomes_ready_is_named(
    reports: Reports, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Patience ends: the child that hangs is named with the seconds that it had."""
    monkeypatch.setattr("headrace.cli.supervisor._REMINDER_SECONDS", 0.05)
    hanging = ChildSpec("edge", "x", reports.spec("edge").command, asyncio.Event().wait, 1, 20)  # type: ignore[arg-type]

    with pytest.raises(StartError, match="edge did not become ready within 0 s"):
        await supervise([hanging], asyncio.Event(), start_seconds=0.2)


async def test_a_command_that_is_not_there_is_named(reports: Reports) -> None:
    """A command that cannot run at all is one sentence, and what ran before it has ended."""
    absent = ChildSpec("worker", "x", ("/absent/command",), asyncio.Event().wait, 1, 20)  # type: ignore[arg-type]

    with pytest.raises(StartError, match="worker cannot be started: No such file"):
        await supervise([reports.spec("tokenizer"), absent], asyncio.Event())
    assert not [pid for pid in reports.pids.values() if is_alive(pid)]


async def test_output_is_passed_on_and_the_sentence_is_not_said_twice(reports: Reports) -> None:
    """Log lines of a child are shown; its last sentence appears in ours alone."""
    stream = StringIO()
    supervisor = Supervisor([reports.spec("worker", "fails")], Progress(stream))
    with pytest.raises(StartError):
        await supervisor.run(asyncio.Event(), lambda: None)

    shown = stream.getvalue()
    assert "log line\n" in shown
    assert shown.count("no model") == 1
    assert "headrace: worker on place of worker" in shown

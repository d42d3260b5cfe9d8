"""`headrace serve` with real child processes, as a person or a supervisor of processes uses it."""

import os
import re
import select
import signal
import socket
import subprocess
from pathlib import Path

import pytest

from tests.support.curl_line import post_curl_line
from tests.support.serve_command import COMMAND, END_SECONDS, ROOT, STARTED, serving

pytestmark = pytest.mark.e2e


@pytest.mark.slow
def test_the_printed_line_answers_and_sigterm_ends_all_in_order(tmp_path: Path) -> None:
    """The curl line streams an answer; then edge, worker and tokenizer end, and none is left."""
    with serving(tmp_path / "log", "--workers", "2") as served:
        status, answer = post_curl_line(served.curl)
        assert status == 200
        assert b'"chat.completion.chunk"' in answer
        assert answer.rstrip().endswith(b"data: [DONE]")

        served.process.terminate()
        assert served.wait() == 0
        assert served.surviving() == []
    ended = re.findall(r"^(.+) has ended$", served.log.read_text(), re.MULTILINE)
    assert ended[0] == "edge"
    assert sorted(ended[1:3]) == ["worker 1", "worker 2"]
    assert ended[3] == "tokenizer"


def test_children_do_not_outlive_a_killed_parent(tmp_path: Path) -> None:
    """Kill -9 of the supervisor leaves no process behind."""
    with serving(tmp_path / "log") as served:
        assert len(served.children) == 3
        served.process.kill()
        served.wait()

        assert served.surviving(seconds=5) == []


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("tokenizer", marks=pytest.mark.slow),
        "worker",
        pytest.param("edge", marks=pytest.mark.slow),
    ],
)
def test_a_child_that_dies_is_named_and_ends_all(tmp_path: Path, name: str) -> None:
    """Whichever child is killed: one sentence with its name, exit code 1, nothing left."""
    with serving(tmp_path / "log") as served:
        signal.pidfd_send_signal(served.children[name], signal.SIGKILL)

        assert served.wait() == 1
        assert served.surviving() == []
    text = served.log.read_text()
    sentence = rf"^headrace: {name} on .* was killed by SIGKILL$"
    assert len(re.findall(sentence, text, re.MULTILINE)) == 1
    assert "Traceback" not in text


def test_a_taken_port_starts_nothing(tmp_path: Path) -> None:
    """A port that is taken is one sentence before any process starts."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = str(server.getsockname()[1])
        with serving(tmp_path / "log", "--port", port) as served:
            assert served.wait() == 1
    text = served.log.read_text()
    assert served.children == {}
    assert f"port {port} on 127.0.0.1, which the edge needs, is taken" in text
    assert len(text.splitlines()) == 1


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
@pytest.mark.parametrize("lines", range(1, 7))
def test_an_end_at_any_moment_of_the_start_leaves_nothing(
    lines: int, number: signal.Signals
) -> None:
    """Ended after the first, second, … line of progress, no process is left, however it ended."""
    with subprocess.Popen(
        COMMAND,
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr is not None
        seen = [process.stderr.readline() for _ in range(lines)]
        was_ready = "".join(seen).count(" is ready (") == 3
        process.send_signal(number)
        seen += process.stderr.readlines()
        status = process.wait(END_SECONDS)

    ordered_end = 0 if was_ready else 1
    assert status == (-number if number == signal.SIGKILL else ordered_end)
    for _, pid in re.findall(STARTED, "".join(seen), re.MULTILINE):
        assert has_ended(int(pid), seconds=10)


def has_ended(pid: int, seconds: float) -> bool:
    """Wait for the end of a process that is not our child."""
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    ended, _, _ = select.select([pidfd], [], [], seconds)
    os.close(pidfd)
    return bool(ended)

"""`headrace serve`: one command, everything up, and everything down again."""

import json
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.e2e.conftest import Measured
from tests.support.curl_line import post_curl_line
from tests.support.stack import MODEL, START_SECONDS, clean_environment, wait_for

_END_SECONDS = 60.0


class _Serve:
    """A running `headrace serve`, with its output in files."""

    def __init__(self, folder: Path, *flags: str) -> None:
        self._output = folder / "stdout"
        self._errors = folder / "stderr"
        self.began = time.monotonic()
        with self._output.open("wb") as output, self._errors.open("wb") as errors:
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-m", "headrace", "serve", *flags],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=errors,
                env=clean_environment(),
                start_new_session=True,
            )

    @property
    def output(self) -> str:
        """Standard output so far."""
        return self._output.read_text(encoding="utf-8")

    @property
    def errors(self) -> str:
        """Standard error so far."""
        return self._errors.read_text(encoding="utf-8")

    @property
    def children(self) -> dict[int, str]:
        """Command lines of the running children, by pid."""
        pid = self.process.pid
        listed = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()
        return {int(child): _command_line(int(child)) for child in listed}

    def wait_ready(self) -> None:
        """Wait for the line that says so."""

        def ready() -> bool:
            assert self.process.poll() is None, self.errors
            return "curl -N" in self.output

        wait_for(ready, "serve is ready", START_SECONDS)

    def wait(self) -> int:
        """Wait for the end; returns the exit code."""
        return self.process.wait(_END_SECONDS)


Serve = Callable[..., _Serve]


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """Starts `headrace serve` with flags, on free ports unless they say otherwise."""
    started: list[_Serve] = []

    def start(*flags: str) -> _Serve:
        free = ("--port", "0", "--tokenizer-port", "0", "--worker-port", "0")
        started.append(_Serve(tmp_path, *free, *flags))
        return started[-1]

    yield start
    for each in started:
        if each.process.poll() is None:
            each.process.kill()
            each.process.wait()


def _command_line(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except FileNotFoundError:
        return ""


def _require_gone(children: dict[int, str]) -> None:
    left = [line for pid, line in children.items() if line and _command_line(pid) == line]
    assert left == []


def _only_sentence(errors: str) -> str:
    """The last line of stderr, which must be the one sentence; no traceback anywhere."""
    lines = [line for line in errors.splitlines() if line.startswith("headrace: ")]
    assert len(lines) == 1, errors
    assert "Traceback" not in errors
    return lines[0]


@pytest.mark.model
def test_first_contact(serve: Serve, measured: Measured) -> None:
    """The default model: ready line, a curl line that answers, and SIGTERM leaves no process."""
    running = serve()
    running.wait_ready()
    measured("ready after, s", round(time.monotonic() - running.began, 1))
    ready = re.search(rf"serves {MODEL} \(openvino engine\), ready in [\d.]+ s", running.output)
    curl = next(line for line in running.output.splitlines() if line.startswith("curl "))
    status, body = post_curl_line(curl)
    children = running.children
    running.process.send_signal(signal.SIGTERM)
    code = running.wait()

    assert ready
    assert status == 200
    assert body.endswith(b"data: [DONE]\n\n")
    assert len(children) == 3
    assert code == 0
    _require_gone(children)
    assert "Traceback" not in running.errors


def test_missing_model(serve: Serve) -> None:
    """A model that does not exist is one sentence that names it, and a non-zero exit."""
    running = serve("--engine", "paced", "--model", "no-such-model")

    assert running.wait() == 1
    assert "no-such-model" in _only_sentence(running.errors)


def test_settings_file(serve: Serve, tmp_path: Path) -> None:
    """The settings file reaches the children: a bound set there is the one that is refused at."""
    config = tmp_path / "headrace.toml"
    config.write_text('[worker]\nengine = "paced"\n[edge.server]\nmax_body_bytes = 2048\n')
    running = serve("--config", str(config), "--tokenizers", "2")
    running.wait_ready()
    curl = next(line for line in running.output.splitlines() if line.startswith("curl "))
    head, data, tail = re.split(r"( -d '.*')", curl)
    body = json.loads(shlex.split(data)[1])
    body["messages"][0]["content"] = "x" * 3000
    status, answer = post_curl_line(f"{head} -d {shlex.quote(json.dumps(body))}{tail}")
    children = running.children
    running.process.send_signal(signal.SIGINT)

    assert running.wait() == 0
    assert len(children) == 4
    _require_gone(children)
    assert status == 413
    assert json.loads(answer)["error"]["code"] == "request_too_large"

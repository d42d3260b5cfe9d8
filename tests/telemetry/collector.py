"""A real collector: rotel, which takes OTLP over gRPC and hands it on to a recorder."""

import os
import socket
import subprocess
from pathlib import Path

from tests.support.stack import ROOT, wait_for

_ENVIRONMENT = ROOT / ".venv-clients" / "collector"
_START_SECONDS = 20.0
_STOP_SECONDS = 10.0


class Collector:
    """One collector process, which keeps its ports when it is started again."""

    def __init__(self, folder: Path, target: str) -> None:
        """It hands on what it gets to `target`, an OTLP endpoint over gRPC."""
        self._folder = folder
        self._target = target
        # Both are held until both are known: else the second could be the first.
        with _bound() as grpc_port, _bound() as http_port:
            self.port = grpc_port.getsockname()[1]
            self._http_port = http_port.getsockname()[1]
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def endpoint(self) -> str:
        """Where services send spans."""
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start it, unless it runs, and wait until it listens."""
        if self._process is not None:
            return
        program, environment = _program()
        command = [str(program), "start", "--pid-file", str(self._folder / "collector.pid")]
        command += ["--otlp-grpc-endpoint", f"127.0.0.1:{self.port}"]
        command += ["--otlp-http-endpoint", f"127.0.0.1:{self._http_port}"]
        command += ["--exporter", "otlp", "--otlp-exporter-endpoint", self._target]
        command += ["--otlp-exporter-protocol", "grpc", "--batch-timeout", "10ms"]
        command += ["--otlp-exporter-retry-initial-backoff", "100ms"]
        with (self._folder / "collector.log").open("ab") as log:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment
            )
        wait_for(self._is_listening, "the collector listens", _START_SECONDS)

    def kill(self) -> None:
        """SIGKILL, and wait for the end."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(_STOP_SECONDS)
            self._process = None

    def _is_listening(self) -> bool:
        if self._process is None or self._process.poll() is not None:
            log = (self._folder / "collector.log").read_text(encoding="utf-8", errors="replace")
            raise AssertionError(f"the collector ended at its start: {log[-2000:]}")
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0


def _bound() -> socket.socket:
    bound = socket.socket()
    bound.bind(("127.0.0.1", 0))
    return bound


def _program() -> tuple[Path, dict[str, str]]:
    """The binary and the environment in which it starts; fails where either is missing.

    It is linked with the shared library of the Python whose wheel it came in: the system's, or
    beside an interpreter that was built with one. Debian's package is libpython3.11.
    """
    found = sorted(_ENVIRONMENT.glob("lib/python3.*/site-packages/rotel/rotel-agent"))
    assert found, f"no collector in {_ENVIRONMENT}: make collector"
    program = found[-1]
    library = f"lib{program.parents[2].name}.so.1.0"
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("ROTEL_")}
    folder = _run([str(_ENVIRONMENT / "bin" / "python"), "-c", _LIBRARY_FOLDER], inherited).strip()
    beside = {**inherited, "LD_LIBRARY_PATH": folder}
    for environment in (inherited, beside):
        if _run([str(program), "--help"], environment):
            return program, environment
    raise AssertionError(
        f"the collector does not run; it needs glibc 2.34 and {library}, which is neither among "
        f"the system's libraries nor in {folder}: install libpython or use another Python"
    )


_LIBRARY_FOLDER = "import sysconfig; print(sysconfig.get_config_var('LIBDIR') or '')"


def _run(command: list[str], environment: dict[str, str]) -> str:
    """What a program printed; empty where it failed."""
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=30, env=environment
    )
    return done.stdout if done.returncode == 0 else ""

"""Real processes of all services on loopback, each with a settings file and a log file of its own.

A service listens on a free port that it chose itself and keeps it when it is started again. Every
process leads a process group and ends with the test process, however that one ends. Processes are
started from the main thread only: the kernel ties a child to the thread that made it.
"""

import http.client
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from edge.settings import BackendSettings, EdgeSettings
from headrace.runtime.settings import SettingsGroup, render_settings
from tokenizer_svc.settings import TokenizerSettings
from worker.settings import WorkerSettings

ROOT = Path(__file__).parents[2]
MODEL = "SmolLM2-135M-Instruct"
START_SECONDS = 90.0
STOP_SECONDS = 30.0
_POLL_SECONDS = 0.02
_LISTENING = {
    "tokenizer": "tokenizer_serving",
    "worker": "worker_serving",
    "edge": "edge_listening",
}

FoundT = TypeVar("FoundT")


def wait_for(found: Callable[[], FoundT | None], what: str, seconds: float) -> FoundT:
    """Poll until `found` gives something true; fails with `what` when the time is over."""
    deadline = time.monotonic() + seconds
    while not (result := found()):
        if time.monotonic() > deadline:
            raise AssertionError(f"{what}: not within {seconds:g} s")
        time.sleep(_POLL_SECONDS)
    return result


def clean_environment() -> dict[str, str]:
    """The environment of this process without settings, and with the source tree importable."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("HEADRACE_")}
    return {**kept, "PYTHONPATH": str(ROOT)}


def group_runs(group: int) -> bool:
    """Whether any process of the group runs; one that has ended may wait for init to notice."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            state, _parent, of_group = stat.read_text().rpartition(")")[2].split()[:3]
            if int(of_group) == group and state != "Z":
                return True
    return False


class Service:
    """One service process, started and ended as often as a test likes."""

    def __init__(self, kind: str, name: str, folder: Path, settings: SettingsGroup) -> None:
        self.kind, self.name = kind, name
        self.log_file = folder / f"{name}.log"
        self._config = folder / f"{name}.toml"
        self._config.write_text(render_settings(kind, settings), encoding="utf-8")
        self._process: subprocess.Popen[bytes] | None = None
        self._log_start = 0
        self._is_told = False
        self.port = 0

    @property
    def address(self) -> str:
        """host:port."""
        return f"127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        """The base of an edge's URLs, without a slash at its end."""
        return f"http://{self.address}"

    @property
    def pid(self) -> int:
        """Process id of the running process."""
        if self._process is None:
            raise AssertionError(f"{self.name} is not started")
        return self._process.pid

    @property
    def is_running(self) -> bool:
        """Started and not ended."""
        return self._process is not None and self._process.poll() is None

    @property
    def memory_bytes(self) -> int:
        """Resident memory."""
        pages = int(Path(f"/proc/{self.pid}/statm").read_text(encoding="ascii").split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")

    @property
    def num_open_files(self) -> int:
        """Open files, connections among them."""
        return sum(1 for _ in Path(f"/proc/{self.pid}/fd").iterdir())

    def spawn(self) -> None:
        """Start the process; `await_listening` waits until it serves."""
        self._is_told = False
        self._log_start = self.log_file.stat().st_size if self.log_file.exists() else 0
        command = [sys.executable, "-P", "-m", "headrace", self.kind]
        command += ["--config", str(self._config), "--log-format", "json"]
        command += ["--die-with-parent", str(os.getpid())]
        if self.port:
            command += ["--server.port" if self.kind == "edge" else "--port", str(self.port)]
        with self.log_file.open("ab") as log:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=clean_environment(),
                start_new_session=True,
            )

    def await_listening(self) -> None:
        """Wait until it says on which port it listens."""
        self.port = wait_for(self._listening_port, f"{self.name} listens", START_SECONDS)

    def start(self) -> None:
        """Start it and wait until it serves."""
        self.spawn()
        self.await_listening()

    def events(self, *names: str) -> list[dict[str, Any]]:
        """The log lines of these names, in order, of the process that runs now."""
        return [line for line in self._log_lines() if line.get("event") in names]

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the process."""
        os.kill(self.pid, number)

    def kill(self) -> None:
        """SIGKILL, and wait for the end."""
        self.signal(signal.SIGKILL)
        self.wait()

    def wait(self, seconds: float = STOP_SECONDS) -> int:
        """Wait for the end; returns the exit code."""
        if self._process is None:
            raise AssertionError(f"{self.name} is not started")
        return self._process.wait(seconds)

    def stop(self) -> int:
        """SIGTERM, and wait for an orderly end; returns the exit code."""
        self.signal(signal.SIGTERM)
        return self.wait()

    def tell_to_end(self) -> None:
        """Ask for an orderly end whatever state it is in; `end` waits for it."""
        self._is_told = self.is_running
        if self._is_told:
            self.signal(signal.SIGCONT)
            self.signal(signal.SIGTERM)

    def end(self) -> None:
        """Wait for the end, asked for here if not before, which leaves nothing behind."""
        if not self._is_told:
            self.tell_to_end()
        if self._is_told:
            code = self.wait()
            assert code == 0, f"{self.name} ended with exit code {code}"
        self._require_gone()

    def destroy(self) -> None:
        """End it by force, if it is still there."""
        if self.is_running:
            self.kill()

    def require_clean_log(self) -> None:
        """Fail when any process of this service reported an error or crashed."""
        text = self.log_file.read_text(encoding="utf-8")
        for line in text.splitlines():
            bad = "Traceback" in line or '"level": "error"' in line or '"level":"error"' in line
            assert not bad, f"{self.name} logged: {line[:4000]}"

    def _require_gone(self) -> None:
        if self._process is not None:
            # What the kernel kills with its parent is gone a moment later.
            group = self._process.pid
            wait_for(lambda: not group_runs(group), f"nothing of {self.name} is left", 2)

    def _listening_port(self) -> int | None:
        if not self.is_running:
            tail = self.log_file.read_text(encoding="utf-8")[self._log_start :][-2000:]
            raise AssertionError(f"{self.name} ended at its start: {tail}")
        for line in self.events(_LISTENING[self.kind]):
            return int(line["port"])
        return None

    def _log_lines(self) -> Iterator[dict[str, Any]]:
        with self.log_file.open("rb") as log:
            log.seek(self._log_start)
            for line in log.read().splitlines(keepends=True):
                if line.startswith(b"{") and line.endswith(b"\n"):
                    yield json.loads(line)


class Stack:
    """Tokenizers, workers and edges that belong together; `close` ends them all."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.tokenizers: list[Service] = []
        self.workers: list[Service] = []
        self.edges: list[Service] = []

    @property
    def edge(self) -> Service:
        """The first edge."""
        return self.edges[0]

    @property
    def services(self) -> list[Service]:
        """All of them, in the order in which they are ended."""
        return [*self.edges, *self.workers, *self.tokenizers]

    def start_backend(
        self, workers: list[WorkerSettings], tokenizers: list[TokenizerSettings] | None = None
    ) -> None:
        """Start tokenizers and workers at once and wait for all of them."""
        for each in tokenizers or [TokenizerSettings()]:
            self.tokenizers.append(self._service("tokenizer", len(self.tokenizers), each))
        for every in workers:
            self.workers.append(self._service("worker", len(self.workers), every))
        services = [*self.tokenizers, *self.workers]
        for service in services:
            service.spawn()
        for service in services:
            service.await_listening()

    def _service(self, kind: str, number: int, settings: SettingsGroup) -> Service:
        free_port = settings.model_copy(update={"port": 0})
        return Service(kind, f"{kind}-{number}", self._folder, free_port)

    def add_edge(self, settings: EdgeSettings | None = None) -> Service:
        """Start an edge before all workers and tokenizers, and wait until it is ready."""
        settings = settings or EdgeSettings()
        addresses = {
            "worker_addresses": tuple(worker.address for worker in self.workers),
            "tokenizer_addresses": tuple(each.address for each in self.tokenizers),
        }
        backend: BackendSettings = settings.backend.model_copy(update=addresses)
        server = settings.server.model_copy(update={"port": 0})
        settings = settings.model_copy(update={"backend": backend, "server": server})
        edge = Service("edge", f"edge-{len(self.edges)}", self._folder, settings)
        self.edges.append(edge)
        edge.start()
        self.await_connected(edge)
        return edge

    def await_connected(self, edge: Service, seconds: float = START_SECONDS) -> None:
        """Wait until the edge answers, and is connected to every peer."""
        wait_for(lambda: is_ready(edge), f"{edge.name} is ready", seconds)
        peers = {service.address for service in (*self.workers, *self.tokenizers)}

        def connected() -> bool:
            lines = edge.events("peer_connected", "peer_closed", "peer_lost")
            last = {line["address"]: line["event"] for line in lines}
            return all(last.get(peer) == "peer_connected" for peer in peers)

        wait_for(connected, f"{edge.name} is connected to {sorted(peers)}", seconds)

    def close(self) -> None:
        """End edges, then all others; fail for what went wrong in any of them."""
        try:
            for services in (self.edges, [*self.workers, *self.tokenizers]):
                for service in services:
                    service.tell_to_end()
                for service in services:
                    service.end()
        finally:
            for service in self.services:
                service.destroy()
        for service in self.services:
            service.require_clean_log()


def is_ready(edge: Service) -> bool:
    """Whether the edge says that it can answer."""
    connection = http.client.HTTPConnection("127.0.0.1", edge.port, timeout=5)
    try:
        connection.request("GET", "/ready")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()

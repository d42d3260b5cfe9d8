"""The services of one measuring point, as real processes on loopback."""

import http.client
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

_READY_SECONDS = 60.0
_STOP_SECONDS = 20.0


@dataclass(frozen=True)
class Stack:
    """Running services: the edge's port, and the processes of each service."""

    port: int
    edge: int
    tokenizer: int
    workers: tuple[int, ...]


def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def process(arguments: Sequence[str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A Python process, ended with the context."""
    with log.open("wb") as output:
        # In a group of its own: Ctrl-C is for the benchmark, which ends its processes itself.
        child = subprocess.Popen(
            [sys.executable, *arguments], stdout=output, stderr=output, process_group=0
        )
    try:
        yield child
    finally:
        child.terminate()
        try:
            child.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


@contextmanager
def running_stack(num_workers: int, model: str, rate: float, folder: Path) -> Iterator[Stack]:
    """One edge, one tokenizer and so many paced workers."""
    edge_port, tokenizer_port = free_port(), free_port()
    worker_ports = [free_port() for _ in range(num_workers)]
    config = folder / "settings.toml"
    config.write_text(
        _config(edge_port, tokenizer_port, worker_ports, model, rate), encoding="utf-8"
    )
    service = ["-m", "headrace"]
    common = ["--config", str(config), "--log-level", "warning"]
    with ExitStack() as stack:
        tokenizer = stack.enter_context(
            process([*service, "tokenizer", *common], folder / "tokenizer.log")
        )
        workers = [
            stack.enter_context(
                process(
                    [*service, "worker", *common, "--port", str(port)],
                    folder / f"worker-{port}.log",
                )
            )
            for port in worker_ports
        ]
        # The edge last: it then connects to all of them at its first attempt.
        for port in (tokenizer_port, *worker_ports):
            await_listening(port, folder)
        edge = stack.enter_context(process([*service, "edge", *common], folder / "edge.log"))
        await_ready(edge_port, folder)
        time.sleep(1.0)  # /ready needs one worker; the others' connections are under way
        yield Stack(edge_port, edge.pid, tokenizer.pid, tuple(child.pid for child in workers))


def _config(
    edge_port: int, tokenizer_port: int, worker_ports: Sequence[int], model: str, rate: float
) -> str:
    addresses = ", ".join(f'"127.0.0.1:{port}"' for port in worker_ports)
    return f"""
[edge.server]
port = {edge_port}
[edge.admission]
max_concurrent_requests = 4096
[edge.backend]
tokenizer_addresses = ["127.0.0.1:{tokenizer_port}"]
worker_addresses = [{addresses}]
[tokenizer]
models = ["{model}"]
port = {tokenizer_port}
[worker]
model = "{model}"
engine = "paced"
[worker.paced]
tokens_per_second = {rate}
"""


def await_listening(port: int, folder: Path) -> None:
    """Return when something listens on a port; raises TimeoutError with the logs in `folder`."""
    _await(lambda: _is_listening(port), folder)


def await_ready(port: int, folder: Path) -> None:
    """Return when an edge has a model; raises TimeoutError with the logs in `folder`."""
    _await(lambda: _is_ready(port), folder)


def _await(condition: Callable[[], bool], folder: Path) -> None:
    deadline = time.monotonic() + _READY_SECONDS
    while not condition():
        if time.monotonic() > deadline:
            logs = "\n".join(path.read_text()[-500:] for path in folder.glob("*.log"))
            raise TimeoutError(f"not ready within {_READY_SECONDS:g} s:\n{logs}")
        time.sleep(0.1)


def _is_listening(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=2).close()
    except OSError:
        return False
    return True


def _is_ready(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
    try:
        connection.request("GET", "/ready")
        return connection.getresponse().status == http.HTTPStatus.OK
    except OSError:
        return False
    finally:
        connection.close()

"""Questions to a health port as probes ask them, and the processes behind it."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from headrace.telemetry.settings import HealthSettings
from tests.support.stack import ROOT, clean_environment

_TIMEOUT_SECONDS = 20.0


def http_ask(port: int, path: str) -> tuple[int, str]:
    """Status and body of a GET on a connection of its own. Raises OSError."""
    with closing(HTTPConnection("127.0.0.1", port, timeout=_TIMEOUT_SECONDS)) as connection:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read().decode()


def http_status(port: int, path: str) -> int | None:
    """The status alone; None where nobody answers."""
    try:
        return http_ask(port, path)[0]
    except OSError:
        return None


def grpc_ask(port: int, name: str = "") -> str:
    """What Check says of a service, or the name of the error's code."""
    with grpc.insecure_channel(f"127.0.0.1:{port}", _NO_PROXY) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        request = health_pb2.HealthCheckRequest(service=name)
        try:
            answer = stub.Check(request, timeout=_TIMEOUT_SECONDS, wait_for_ready=True)
        except grpc.RpcError as error:
            return str(error.code().name)
        return str(health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status))


_NO_PROXY = (("grpc.enable_http_proxy", 0),)


def health_child_of(pid: int) -> int | None:
    """Process id of the process on a service's health port."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            status = (folder / "status").read_text(encoding="ascii", errors="replace")
            command = (folder / "cmdline").read_bytes()
        except OSError:
            continue
        if f"\nPPid:\t{pid}\n" in status and b"headrace.telemetry.health_child" in command:
            return int(folder.name)
    return None


@dataclass
class BusyProcess:
    """The double of bench/busy_service.py, running."""

    process: subprocess.Popen[str]
    port: int

    def say(self, *words: str) -> None:
        """Words that it obeys, one after the other."""
        stdin = self.process.stdin
        assert stdin is not None
        stdin.write("".join(f"{word}\n" for word in words))
        stdin.flush()


@contextmanager
def busy_process(settings: HealthSettings) -> Iterator[BusyProcess]:
    """A service with a loop that can be kept busy, or made to stand still."""
    command = [sys.executable, "-m", "bench.busy_service", settings.model_dump_json()]
    with subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env=clean_environment(),
        start_new_session=True,
    ) as process:
        try:
            assert process.stdout is not None
            told = json.loads(process.stdout.readline())
            yield BusyProcess(process, told["port"])
        finally:
            process.kill()

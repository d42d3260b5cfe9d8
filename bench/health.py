"""Times of the health port's answers while the service's loop and interpreter lock are taken.

A service is calm, then busy: its loop never waits and two more threads want the lock. Meanwhile
others besiege the port with half requests, long heads and endless pings. Exit code 1 where a p99
is above the promise of 100 ms.
"""

import argparse
import contextlib
import json
import multiprocessing
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from http.client import HTTPConnection
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import IO

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

_PROMISE_SECONDS = 0.1
_PATHS = ("/health", "/ready", "/metrics")
_PING = b"\x00\x00\x08\x06\x00\x00\x00\x00\x00" + bytes(8)
_HTTP2_START = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\x00\x00\x00\x04\x00\x00\x00\x00\x00"
_NUM_HALF = 150
_NUM_FLOODS = 4
_PAUSE_SECONDS = 0.01


def main() -> int:
    """Measure, print a table; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m bench.health", description=__doc__)
    parser.add_argument("--tries", type=int, default=200, help="a question and state (200)")
    tries = parser.parse_args().tries
    kept = True
    with _busy_service() as (port, commands):
        _await_answer(port)
        print(f"health process: {_child_memory(port)}")
        print(f"{'state':<18}{'question':<12}{'median ms':>10}{'p99 ms':>10}{'max ms':>10}")
        for state in ("calm", "busy", "busy, besieged"):
            with _besieged(port) if "besieged" in state else contextlib.nullcontext():
                commands.write(f"{'start' if state == 'calm' else 'busy'}\n")
                commands.flush()
                kept = _measure(state, port, tries) and kept
    return 0 if kept else 1


def _measure(state: str, port: int, tries: int) -> bool:
    kept = True
    questions: dict[str, Callable[[], None]] = {path: _getter(port, path) for path in _PATHS}
    questions["grpc"] = lambda: _check(port)
    for name, ask in questions.items():
        times = sorted(_time(ask) for _ in range(tries))
        p99 = times[int(len(times) * 0.99)]
        kept = kept and p99 <= _PROMISE_SECONDS
        shown = "".join(
            f"{1e3 * each:>10.1f}" for each in (statistics.median(times), p99, times[-1])
        )
        print(f"{state:<18}{name:<12}{shown}")
    return kept


def _time(ask: Callable[[], None]) -> float:
    # Fewer a second than an address may begin.
    time.sleep(_PAUSE_SECONDS)
    began = time.perf_counter()
    ask()
    return time.perf_counter() - began


def _getter(port: int, path: str) -> Callable[[], None]:
    def get() -> None:
        connection = HTTPConnection("127.0.0.1", port, timeout=10)
        with contextlib.closing(connection):
            connection.request("GET", path)
            connection.getresponse().read()

    return get


def _check(port: int) -> None:
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        stub.Check(health_pb2.HealthCheckRequest(), timeout=10, wait_for_ready=True)


@contextlib.contextmanager
def _busy_service() -> Iterator[tuple[int, IO[str]]]:
    settings = json.dumps({"port": 0})
    command = [sys.executable, "-m", "bench.busy_service", settings]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as it:
        if it.stdin is None or it.stdout is None:
            raise AssertionError("both are pipes")
        try:
            yield int(json.loads(it.stdout.readline())["port"]), it.stdin
        finally:
            it.kill()


def _await_answer(port: int) -> None:
    began = time.perf_counter()
    _getter(port, "/health")()
    print(f"first answer {time.perf_counter() - began:.2f} s after the port was known")


def _child_memory(port: int) -> str:
    """Resident memory of the process that answers, which alone listens beside its parent."""
    marker = b"headrace.telemetry.health_child"
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if marker in (folder / "cmdline").read_bytes() and _listens(folder, port):
                lines = (folder / "status").read_text().splitlines()
                return ", ".join(" ".join(line.split()) for line in lines if "Rss" in line[:7])
    return "not found"


def _listens(folder: Path, port: int) -> bool:
    wanted = {
        line.split()[9]
        for line in Path("/proc/net/tcp").read_text().splitlines()[1:]
        if line.split()[1].endswith(f":{port:04X}") and line.split()[3] == "0A"
    }
    links = (link.readlink().name for link in (folder / "fd").iterdir())
    return any(link.startswith("socket:[") and link[8:-1] in wanted for link in links)


@contextlib.contextmanager
def _besieged(port: int) -> Iterator[None]:
    """More half requests than connections are allowed, and pings as fast as they are taken."""
    context = multiprocessing.get_context("spawn")
    done = context.Event()
    siege = [context.Process(target=_flood, args=(port, done)) for _ in range(_NUM_FLOODS)]
    siege.append(context.Process(target=_half_requests, args=(port, done)))
    for process in siege:
        process.start()
    try:
        yield
    finally:
        done.set()
        for process in siege:
            process.join()


def _besieger(port: int) -> socket.socket:
    """A connection from another address than the questions': what is asked there is its own."""
    return socket.create_connection(("127.0.0.1", port), source_address=("127.0.0.2", 0))


def _half_requests(port: int, done: Event) -> None:
    while not done.is_set():
        with contextlib.suppress(OSError), contextlib.ExitStack() as stack:
            for _ in range(_NUM_HALF):
                peer = stack.enter_context(_besieger(port))
                peer.sendall(b"GET /metrics HTTP/1.1\r\nX-Long: " + b"x" * 4000)
            done.wait(0.5)


def _flood(port: int, done: Event) -> None:
    while not done.is_set():
        with (
            contextlib.suppress(OSError),
            _besieger(port) as peer,
        ):
            peer.sendall(_HTTP2_START)
            peer.settimeout(1)
            while not done.is_set():
                peer.sendall(_PING * 100)
                peer.recv(65536)


if __name__ == "__main__":
    sys.exit(main())

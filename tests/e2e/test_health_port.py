"""The health port of a process whose event loop is taken, stuck or killed, and of real services."""

import asyncio
import os
import signal
import statistics
import time
from collections.abc import Callable, Iterator
from functools import partial

import pytest

from bench.busy_service import SERVICE
from edge.settings import EdgeSettings
from headrace.telemetry.settings import HealthSettings, TelemetrySettings
from tests.e2e.conftest import Measured, open_stack
from tests.support.chat_client import Answer, ask, chat_body, eventually
from tests.support.health_asking import (
    BusyProcess,
    busy_process,
    grpc_ask,
    health_child_of,
    http_ask,
    http_status,
)
from tests.support.stack import Service, Stack, wait_for
from tokenizer_svc.settings import TokenizerSettings
from worker.settings import WorkerSettings

_PROMISE_SECONDS = 0.1
_TRIES = 20
_SECONDS = 30.0
_STUCK_SECONDS = 1.0
_ANY_PORT = TelemetrySettings(health=HealthSettings(port=0))


@pytest.fixture
def busy() -> Iterator[BusyProcess]:
    """Started, and not yet busy; it may stand still for as long as by default."""
    with busy_process(HealthSettings(port=0)) as process:
        yield process


@pytest.fixture
def watched() -> Iterator[BusyProcess]:
    """Started; a second in which its loop does not run is too much."""
    with busy_process(HealthSettings(port=0, stuck_seconds=_STUCK_SECONDS)) as process:
        yield process


def test_answers_in_time_beside_a_saturated_loop(busy: BusyProcess, measured: Measured) -> None:
    """The loop never waits, two threads want the interpreter too, and answers are in time.

    A quarter of them at least: others wait for the tests' machine. `bench.health` holds 99 of 100
    to it, on one that does nothing else.
    """
    questions: dict[str, Callable[[], object]] = {
        path: partial(http_ask, busy.port, path) for path in ("/health", "/ready", "/metrics")
    }
    questions["grpc"] = partial(grpc_ask, busy.port, SERVICE)
    busy.say("start", "busy")
    wait_for(lambda: is_ready(busy.port), "ready", _SECONDS)
    quartiles = {}
    for name, question in questions.items():
        times = []
        for _ in range(_TRIES):
            began = time.monotonic()
            answer = question()
            times.append(time.monotonic() - began)
            assert answer == "SERVING" or (isinstance(answer, tuple) and answer[0] == 200)
        quartiles[name] = statistics.quantiles(times, n=4)
        measured(f"milliseconds of {name}", [round(1e3 * each) for each in quartiles[name]])

    assert all(first < _PROMISE_SECONDS for first, *_ in quartiles.values()), quartiles


def test_a_stuck_loop_turns_unhealthy_and_healthy_again(watched: BusyProcess) -> None:
    """Health, readiness and gRPC all say so, and the metrics say for how long."""
    watched.say("start")
    wait_for(lambda: is_ready(watched.port), "ready", _SECONDS)
    watched.say("stick")
    wait_for(lambda: http_status(watched.port, "/health") == 503, "unhealthy", _SECONDS)

    assert "the event loop has not run for" in http_ask(watched.port, "/ready")[1]
    assert http_status(watched.port, "/ready") == 503
    assert {grpc_ask(watched.port, name) for name in ("", "liveness")} == {"NOT_SERVING"}
    assert heartbeat_age(watched) > _STUCK_SECONDS
    watched.say("free")
    wait_for(lambda: is_ready(watched.port), "ready again", _SECONDS)


def test_a_loop_that_stands_still_while_it_starts_is_left_alone(watched: BusyProcess) -> None:
    """A model that loads for minutes on the loop's own thread is healthy, and not ready."""
    watched.say("stick")
    wait_for(lambda: heartbeat_age(watched) > 2 * _STUCK_SECONDS, "it stands still", _SECONDS)

    assert http_status(watched.port, "/health") == 200
    assert grpc_ask(watched.port, "liveness") == "SERVING"
    assert http_status(watched.port, "/ready") == http_status(watched.port, "/startup") == 503
    watched.say("free", "start")
    wait_for(lambda: is_ready(watched.port), "ready", _SECONDS)


def test_a_frozen_process_is_unhealthy(watched: BusyProcess) -> None:
    """Not one thread of it runs, and the port still says so."""
    watched.say("start")
    wait_for(lambda: is_ready(watched.port), "ready", _SECONDS)
    os.kill(watched.process.pid, signal.SIGSTOP)
    try:
        wait_for(lambda: http_status(watched.port, "/health") == 503, "unhealthy", _SECONDS)
    finally:
        os.kill(watched.process.pid, signal.SIGCONT)
    wait_for(lambda: http_status(watched.port, "/health") == 200, "healthy", _SECONDS)


def test_a_killed_health_process_is_replaced_although_the_loop_is_busy(busy: BusyProcess) -> None:
    """Nothing of that is the loop's work."""
    busy.say("start", "busy")
    wait_for(lambda: is_ready(busy.port), "ready", _SECONDS)
    killed = health_child_of(busy.process.pid)
    assert killed
    os.kill(killed, signal.SIGKILL)

    assert http_ask(busy.port, "/health")[0] == 200
    assert health_child_of(busy.process.pid) != killed


def test_the_health_process_goes_with_a_killed_service(busy: BusyProcess) -> None:
    """SIGKILL leaves neither a process nor a port that answers."""
    assert http_status(busy.port, "/health") == 200
    child = health_child_of(busy.process.pid)
    assert child
    busy.process.kill()
    busy.process.wait()

    wait_for(lambda: not is_running(child), "it is gone", _SECONDS)
    assert http_status(busy.port, "/health") is None


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """One of each service, all with a health port."""
    with open_stack(tmp_path_factory, "health") as stack:
        worker = WorkerSettings(engine="paced", telemetry=_ANY_PORT)
        stack.start_backend([worker], [TokenizerSettings(telemetry=_ANY_PORT)])
        stack.add_edge(EdgeSettings(telemetry=_ANY_PORT))
        yield stack


def test_every_service_tells_its_health(stack: Stack) -> None:
    """Ready under its own name, with its own metrics; an edge is, once it has met a worker."""
    names = {
        "worker": "headrace.worker.v1.GenerationService",
        "tokenizer": "headrace.tokenizer.v1.TokenizerService",
        "edge": "",
    }
    for service in stack.services:
        port = health_port(service)
        # What changes by itself is told with the next heartbeat.
        wait_for(partial(is_ready, port), "ready", _SECONDS)
        assert grpc_ask(port, names[service.kind]) == "SERVING"
        wait_for(partial(has_metrics, port), "metrics", _SECONDS)
    edge_port = health_port(stack.edge)
    wait_for(lambda: "headrace_edge_" in http_ask(edge_port, "/metrics")[1], "its own", _SECONDS)

    for worker in stack.workers:
        assert worker.stop() == 0
    wait_for(lambda: stack.edge.events("peer_closed", "peer_lost"), "it is known", _SECONDS)
    assert http_status(edge_port, "/ready") == 200
    assert stack.edge.stop() == 0
    stack.edge.start()
    edge_port = health_port(stack.edge)
    wait_for(lambda: http_status(edge_port, "/startup") == 200, "started", _SECONDS)
    assert http_status(edge_port, "/ready") == 503
    assert "no model has both a worker and a tokenizer" in http_ask(edge_port, "/ready")[1]
    assert http_status(edge_port, "/health") == 200
    for worker in stack.workers:
        worker.start()
    stack.await_connected(stack.edge)


@pytest.mark.parametrize(
    "kind",
    [
        pytest.param("worker", marks=pytest.mark.slow),
        pytest.param("tokenizer", marks=pytest.mark.slow),
        "edge",
    ],
)
async def test_a_draining_service_says_so_to_its_end(stack: Stack, kind: str) -> None:
    """SIGTERM: not ready while what runs goes on, healthy all the while, and then nobody there."""
    [service] = [each for each in stack.services if each.kind == kind]
    port = health_port(service)
    answer = Answer()
    asking = asyncio.create_task(
        ask(stack.edge, chat_body(max_tokens=150, stream=True), into=answer)
    )

    async def has_text() -> bool:
        assert not asking.done(), (answer.status, answer.body)
        return answer.has_text

    async def is_draining() -> bool:
        return await asyncio.to_thread(http_status, port, "/ready") == 503

    await eventually(has_text, "text")
    service.signal(signal.SIGTERM)
    await eventually(is_draining, "not ready")
    said = await asyncio.to_thread(http_ask, port, "/ready")
    healthy = await asyncio.to_thread(http_status, port, "/health")
    assert not asking.done()
    await asking
    code = await asyncio.to_thread(service.wait)
    gone = await asyncio.to_thread(http_status, port, "/health")
    service.start()
    await asyncio.to_thread(stack.await_connected, stack.edge)

    assert (said, healthy) == ((503, '{"status": "draining", "detail": "draining"}'), 200)
    assert answer.is_complete
    assert (code, gone) == (0, None)


def health_port(service: Service) -> int:
    """As its log says."""
    return int(service.events("health_listening")[-1]["port"])


def is_ready(port: int) -> bool:
    """As a probe sees it."""
    return http_status(port, "/ready") == 200


def has_metrics(port: int) -> bool:
    """Whether they have been rendered."""
    return "headrace_metrics_age_seconds" in http_ask(port, "/metrics")[1]


def heartbeat_age(busy: BusyProcess) -> float:
    """As the metrics say, in seconds."""
    lines = http_ask(busy.port, "/metrics")[1].splitlines()
    [line] = [line for line in lines if line.startswith("headrace_loop_heartbeat_age_seconds ")]
    return float(line.split()[1])


def is_running(pid: int) -> bool:
    """Whether there is such a process."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True

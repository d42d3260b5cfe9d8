import asyncio
import os
import signal
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from structlog.testing import capture_logs

from headrace.runtime.errors import StartError
from headrace.telemetry.health_port import open_health
from headrace.telemetry.health_pulse import Silence
from headrace.telemetry.health_report import HealthReport
from headrace.telemetry.settings import HealthSettings
from tests.support.chat_client import eventually
from tests.support.health_asking import grpc_ask, health_child_of, http_ask, http_status

SERVICE = "a.v1.Service"


@asynccontextmanager
async def opened(report: HealthReport, **settings: float) -> AsyncIterator[int]:
    async with open_health(HealthSettings(port=0, **settings), report, [SERVICE]) as port:
        assert port
        yield port


async def asked(port: int, path: str) -> tuple[int, str]:
    return await asyncio.to_thread(http_ask, port, path)


async def test_without_a_port_there_is_nothing() -> None:
    """No process, no listener."""
    async with open_health(HealthSettings(), HealthReport()) as port:
        assert port is None
        assert health_child_of(os.getpid()) is None


async def test_the_library_for_grpc_health_understands_it() -> None:
    """Check as the kubelet asks it, before, while and after the service is ready."""
    report = HealthReport()
    names = ("", SERVICE, "liveness", "startup", "unknown")

    async with opened(report) as port:

        async def answers() -> list[str]:
            return [await asyncio.to_thread(grpc_ask, port, name) for name in names]

        no, yes, unknown = "NOT_SERVING", "SERVING", "NOT_FOUND"
        assert await answers() == [no, no, yes, no, unknown]
        report.serve()
        assert await answers() == [yes, yes, yes, yes, unknown]
        report.drain()
        assert await answers() == [no, no, yes, yes, unknown]


async def test_the_library_for_grpc_health_can_watch() -> None:
    """A stream that follows the service from its start to its drain."""
    report = HealthReport()
    serving, not_serving = 1, 2
    async with (
        opened(report) as port,
        grpc.aio.insecure_channel(f"127.0.0.1:{port}", _NO_PROXY) as channel,
    ):
        call = health_pb2_grpc.HealthStub(channel).Watch(
            health_pb2.HealthCheckRequest(), wait_for_ready=True
        )
        told = [(await call.read()).status]
        report.serve()
        told.append((await call.read()).status)
        report.drain()
        told.append((await call.read()).status)
        call.cancel()

    assert told == [not_serving, serving, not_serving]


_NO_PROXY = (("grpc.enable_http_proxy", 0),)


async def test_a_change_is_seen_at_once() -> None:
    """Draining is told before the loop has turned again: nothing that comes later is sent here."""
    report = HealthReport()
    async with opened(report) as port:
        report.serve()
        assert (await asked(port, "/ready"))[0] == 200
        report.drain()
        # This blocks the loop.
        assert http_ask(port, "/ready") == (503, '{"status": "draining", "detail": "draining"}')
        assert http_ask(port, "/health")[0] == 200


async def test_a_problem_that_comes_and_goes_by_itself() -> None:
    """What the service says is asked for again and again."""
    report = HealthReport()
    problem = "no worker"
    async with opened(report) as port:
        report.serve(lambda: problem)
        assert await asked(port, "/ready") == (
            503,
            '{"status": "not ready", "detail": "no worker"}',
        )
        problem = ""

        async def is_ready() -> bool:
            return (await asked(port, "/ready"))[0] == 200

        await eventually(is_ready, "it is ready")


async def test_metrics_are_rendered_again_and_again() -> None:
    """On a thread of their own, and one that fails is logged and does not end the others."""
    count = 0

    def render() -> bytes:
        nonlocal count
        count += 1
        if count == 1:
            raise ValueError("one figure is broken")
        return f"# HELP a A.\n# TYPE a gauge\na {count}\n".encode()

    with capture_logs() as logs:
        async with opened(HealthReport(render), metrics_interval_seconds=0.1) as port:

            async def is_shown() -> bool:
                shown = (await asked(port, "/metrics"))[1]
                return any(f"\na {number}\n" in shown for number in range(3, count + 1))

            await eventually(is_shown, "the third rendering or a later one")

    assert [line["event"] for line in logs if line["log_level"] == "error"] == ["metrics_failed"]


async def test_a_process_that_was_killed_is_replaced() -> None:
    """The port is the same, what was told is known again, and the log says what happened."""
    report = HealthReport()
    with capture_logs() as logs:
        async with opened(report) as port:
            report.serve()
            assert (await asked(port, "/ready"))[0] == 200
            killed = health_child_of(os.getpid())
            assert killed
            os.kill(killed, signal.SIGKILL)
            # The socket stays: a question asked in between waits.
            assert (await asked(port, "/ready"))[0] == 200
            assert health_child_of(os.getpid()) not in (None, killed)

    [ended] = [line for line in logs if line["event"] == "health_process_ended"]
    assert ended["exit_code"] == -signal.SIGKILL


@pytest.mark.slow
@pytest.mark.timeout(240)
async def test_a_process_that_is_killed_again_and_again_is_replaced_in_time() -> None:
    """Within what a kubelet's probes bear: a service that works is not ended for its helper."""
    waits = []
    with capture_logs():
        async with opened(HealthReport()) as port:
            for _ in range(10):
                assert (await asked(port, "/health"))[0] == 200
                killed = health_child_of(os.getpid())
                assert killed
                os.kill(killed, signal.SIGKILL)

                async def is_replaced(gone: int = killed) -> bool:
                    return health_child_of(os.getpid()) not in (None, gone)

                waits.append(await eventually(is_replaced, "it is replaced", 60))

    assert max(waits) < 15


async def test_a_process_that_was_stopped_is_replaced() -> None:
    """It answers nobody and does not end: what tells is that it gives no sign of life."""
    report = HealthReport()
    settings = HealthSettings(port=0)
    with capture_logs() as logs:
        async with open_health(settings, report, silence=Silence(seconds=2.0)) as port:
            assert port
            report.serve()
            assert (await asked(port, "/ready"))[0] == 200
            stopped = health_child_of(os.getpid())
            assert stopped
            os.kill(stopped, signal.SIGSTOP)
            # The socket stays: a question asked in between is the next process's.
            assert (await asked(port, "/ready"))[0] == 200
            assert health_child_of(os.getpid()) not in (None, stopped)

    errors = [line for line in logs if line["log_level"] == "error"]
    assert [line["event"] for line in errors] == ["health_process_silent", "health_process_ended"]
    assert errors[0]["silent_seconds"] > 2.0
    assert errors[1]["exit_code"] == -signal.SIGKILL


async def test_signals_to_the_group_do_not_end_the_process() -> None:
    """A terminal's Ctrl-C reaches it too; it lives until its service ends it."""
    async with opened(HealthReport()) as port:
        assert (await asked(port, "/health"))[0] == 200
        child = health_child_of(os.getpid())
        assert child
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            os.kill(child, number)
        assert (await asked(port, "/health"))[0] == 200
        assert health_child_of(os.getpid()) == child


async def test_nothing_is_left_behind() -> None:
    """Port and process are gone, and the report tells nobody any more."""
    report = HealthReport()
    async with opened(report) as port:
        await asked(port, "/health")
    report.serve()

    assert http_status(port, "/health") is None
    assert health_child_of(os.getpid()) is None


async def test_a_port_that_is_taken_stops_the_start() -> None:
    """In one sentence, before anything slow has begun."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(StartError, match=f"cannot listen on 127.0.0.1 port {port}: Address"):
            async with open_health(HealthSettings(port=port), HealthReport()):
                pass

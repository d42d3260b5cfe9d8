"""A service's health port: answers that hold while its event loop is busy, stuck or starting.

The service itself tells: its loop a heartbeat and its words, a thread the metrics. A small process
answers. The socket is the service's, so that the port is known, and taken, before anything slow
begins, and stays while a process that died, or has fallen silent, is replaced.
"""

import asyncio
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import structlog

from headrace.runtime.back_off import BackOff
from headrace.runtime.errors import StartError
from headrace.telemetry.health_order import HealthOrder
from headrace.telemetry.health_page import HealthPage
from headrace.telemetry.health_pulse import PulseReader, Silence
from headrace.telemetry.health_report import HealthReport
from headrace.telemetry.health_view import HealthRules
from headrace.telemetry.settings import HealthSettings

_log = structlog.get_logger(__name__)

_BEAT_SECONDS = 0.25
_BACKLOG = 1024
_ROOT = Path(__file__).parents[2]
"""Where the package lies: the process imports what the service imports."""
_LOOK_SECONDS = 0.5
"""Between two looks at the process."""
_MOST_BACK_OFF_SECONDS = 5.0
"""Far less than the 30 s of failed probes after which a service is ended that may well work."""


@asynccontextmanager
async def open_health(
    settings: HealthSettings,
    report: HealthReport,
    service_names: Sequence[str] = (),
    silence: Silence | None = None,
) -> AsyncIterator[int | None]:
    """Publish `report` until the context is left; gives the port, None where none is configured.

    `service_names` are the gRPC services that the process has; `silence` is how long the process
    that answers may give no sign of life. Raises StartError for an address
    that cannot be listened on.
    """
    if settings.port is None:
        yield None
        return
    listener = _listen(settings.host, settings.port)
    page = HealthPage.create()
    rules = HealthRules(
        stuck_seconds=settings.stuck_seconds,
        start_seconds=settings.start_seconds,
        names=tuple(service_names),
    )
    order = HealthOrder(os.getpid(), page.descriptor, listener.fileno(), rules)
    teller = _Teller(page, report)
    figures = _Figures(page, report, settings.metrics_interval_seconds)
    keeper = _Keeper(order, figures, silence or Silence())
    try:
        with teller:
            keeper.start()
            port: int = listener.getsockname()[1]
            _log.info("health_listening", host=settings.host, port=port)
            yield port
    finally:
        await asyncio.to_thread(keeper.stop)
        listener.close()
        page.close()


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family, backlog=_BACKLOG)
    except OSError as error:
        raise StartError(
            f"telemetry.health cannot listen on {host} port {port}: {error.strerror or error}"
        ) from error
    listener.setblocking(False)
    return listener


class _Teller:
    """The event loop's part: a heartbeat, and the report's words with each beat and change."""

    def __init__(self, page: HealthPage, report: HealthReport) -> None:
        self._page = page
        self._report = report
        self._loop = asyncio.get_running_loop()
        self._next: asyncio.TimerHandle | None = None

    def __enter__(self) -> None:
        self._report.on_change = self._tell
        self._beat()

    def __exit__(self, *_: object) -> None:
        self._report.on_change = lambda: None
        if self._next is not None:
            self._next.cancel()

    def _beat(self) -> None:
        # First the next one: what the service says may raise, and then is no sign of a stuck loop.
        self._next = self._loop.call_later(_BEAT_SECONDS, self._beat)
        self._tell()

    def _tell(self) -> None:
        now = time.monotonic_ns()
        self._page.tell_beat(now)
        self._page.tell_words(now, self._report.words)


class _Figures:
    """The metrics' part: rendered anew at each interval."""

    def __init__(self, page: HealthPage, report: HealthReport, interval_seconds: float) -> None:
        self._page = page
        self._report = report
        self.interval_seconds = interval_seconds
        self._due_ns = 0

    def tell(self) -> None:
        """Render, if it is time."""
        render = self._report.render
        now = time.monotonic_ns()
        if render is None or now < self._due_ns:
            return
        self._due_ns = now + round(self.interval_seconds * 1e9)
        try:
            text = render()
        except Exception as error:  # noqa: BLE001 (a figure that fails must not end the health port)
            _log.error("metrics_failed", exc_info=error)
            return
        self._page.tell_figures(now, text)


class _Keeper:
    """A thread that keeps the metrics fresh and the process alive.

    The process is started on it: the kernel ties a child's life to the thread that made it.
    """

    def __init__(self, order: HealthOrder, figures: _Figures, silence: Silence) -> None:
        self._order = order
        self._figures = figures
        self._silence = silence
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="health", daemon=True)
        self._process: subprocess.Popen[bytes] | None = None
        self._pulse: PulseReader | None = None
        self._started_at = 0.0
        self._start_at = 0.0
        self._back_off = BackOff(most_seconds=_MOST_BACK_OFF_SECONDS)

    def start(self) -> None:
        """Begin; the process comes a moment later."""
        self._thread.start()

    def stop(self) -> None:
        """End both; blocks for milliseconds."""
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        try:
            while not self._stopping.is_set():
                self._keep_alive()
                self._figures.tell()
                self._stopping.wait(min(_LOOK_SECONDS, self._figures.interval_seconds))
        finally:
            if self._process is not None:
                _end(self._process)

    def _keep_alive(self) -> None:
        now = time.monotonic()
        if self._process is not None:
            if self._pulse is not None and self._pulse.is_lost(now):
                silent_seconds = round(self._pulse.silent_seconds, 3)
                _log.error("health_process_silent", silent_seconds=silent_seconds)
                self._process.kill()
                self._process.wait()
            code = self._process.poll()
            if code is None:
                return
            _end(self._process)
            self._process = self._pulse = None
            lived = now - self._started_at
            self._start_at = now + self._back_off.seconds_after(lived)
            _log.error("health_process_ended", exit_code=code, lived_seconds=round(lived, 3))
        if now >= self._start_at:
            self._started_at = now
            self._spawn()

    def _spawn(self) -> None:
        descriptors = (self._order.page_descriptor, self._order.listener_descriptor)
        command = (sys.executable, "-m", "headrace.telemetry.health_child", self._order.to_json())
        try:
            self._process = subprocess.Popen(  # noqa: S603 (our own program)
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                pass_fds=descriptors,
                cwd=_ROOT,
            )
        except OSError as error:
            self._start_at = self._started_at + self._back_off.seconds_after(0)
            _log.error("health_process_not_started", problem=error.strerror)
            return
        if self._process.stdout is not None:
            signs, now = self._process.stdout.fileno(), self._started_at
            self._pulse = PulseReader(signs, self._silence, _LOOK_SECONDS, now)


def _end(process: subprocess.Popen[bytes]) -> None:
    """Have nothing left of a process, which may have ended."""
    process.kill()
    process.wait()
    if process.stdout is not None:
        process.stdout.close()

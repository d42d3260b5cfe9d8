"""How a service process runs: uvloop, signals, open files, one sentence for what prevents a start.

The first SIGINT or SIGTERM sets the stop event and the service drains; the second ends the process
at once. Exit codes: 0 after an ordered stop, 1 for a StartError, 128 + the signal's number when the
second signal cut the drain short.
"""

import asyncio
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from typing import TypeVar

import structlog
import uvloop

from headrace.runtime.errors import StartError
from headrace.runtime.open_files import raise_open_files_limit

SettingsT = TypeVar("SettingsT")
Service = Callable[[SettingsT, asyncio.Event], Awaitable[None]]

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


def run_service(run: Service[SettingsT], settings: SettingsT) -> int:
    """Run `run(settings, stop)` to its end on uvloop; returns the process's exit code."""
    raise_open_files_limit()
    try:
        uvloop.run(_with_signals(run, settings))
    except StartError as error:
        report_start_error(error)
        return 1
    return 0


def report_start_error(error: StartError) -> None:
    """Write the one sentence to stderr."""
    sys.stderr.write(f"headrace: {error}\n")
    sys.stderr.flush()


async def _with_signals(run: Service[SettingsT], settings: SettingsT) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in _SIGNALS:
        loop.add_signal_handler(number, _on_signal, stop, number)
    try:
        await run(settings, stop)
    except* StartError as group:
        # A task group wraps what its tasks raise: the first sentence is the one to show.
        raise _first(group) from group
    finally:
        for number in _SIGNALS:
            loop.remove_signal_handler(number)


def _on_signal(stop: asyncio.Event, number: signal.Signals) -> None:
    if stop.is_set():
        # Nothing may hold this up: no handlers, no buffers, no waiting threads.
        os._exit(128 + number)
    structlog.get_logger().info("stop_requested", signal=number.name)
    stop.set()


def _first(group: BaseExceptionGroup[StartError]) -> StartError:
    for error in group.exceptions:
        return _first(error) if isinstance(error, BaseExceptionGroup) else error
    raise AssertionError("an exception group is never empty")

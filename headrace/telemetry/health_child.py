"""The process on a service's health port: `python -m headrace.telemetry.health_child JSON`.

It imports the standard library and h2 alone, to be small and soon there. It ends with its parent,
and by nothing but SIGKILL: signals to the group are the service's, which ends it last of all. Its
standard output is the pipe in which its parent looks for signs of life.
"""

import asyncio
import signal
import sys
from contextlib import suppress
from socket import socket

from headrace.runtime.errors import StartError
from headrace.runtime.parent_death import die_with_parent
from headrace.telemetry.health_order import HealthOrder
from headrace.telemetry.health_page import HealthPage
from headrace.telemetry.health_pulse import PulseWriter
from headrace.telemetry.health_server import serve_health
from headrace.telemetry.health_view import HealthView


def main(order: HealthOrder) -> None:
    """Serve until killed; at once over where the parent is gone already."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    with suppress(StartError):
        die_with_parent(order.parent_pid)
        view = HealthView(HealthPage.attach(order.page_descriptor), order.rules)
        listener, pulse = socket(fileno=order.listener_descriptor), PulseWriter(sys.stdout.fileno())
        asyncio.run(serve_health(listener, view, on_tick=pulse.beat))


if __name__ == "__main__":
    main(HealthOrder.from_json(sys.argv[1]))

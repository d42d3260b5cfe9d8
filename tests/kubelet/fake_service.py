"""A container that answers gRPC health as files of a folder want it: `… HOST PORT FOLDER`.

It serves every name but those of the files in FOLDER, which are `HOST:name`. SIGTERM ends it with
exit code 0, after `--linger` seconds, and never with `--stubborn`.
"""

import asyncio
import signal
import socket
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import Any

from headrace.telemetry.health_server import serve_health


class _FakeView:
    """In place of a service's HealthView; no pages are asked for."""

    def __init__(self, options: Namespace) -> None:
        self._options = options

    def grpc_health(self, name: str) -> bool:
        """By the files that are there now."""
        return not (self._options.folder / f"{self._options.host}:{name}").exists()


async def _run(options: Namespace) -> None:
    told = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, told.set)
    listener = socket.create_server((options.host, options.port))
    view: Any = _FakeView(options)
    serving = loop.create_task(serve_health(listener, view))
    await told.wait()
    await asyncio.sleep(options.linger)
    if options.stubborn:
        await serving
    serving.cancel()


def _options() -> Namespace:
    parser = ArgumentParser()
    parser.add_argument("host")
    parser.add_argument("port", type=int)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--linger", type=float, default=0.0)
    parser.add_argument("--stubborn", action="store_true")
    return parser.parse_args()


if __name__ == "__main__":
    asyncio.run(_run(_options()))

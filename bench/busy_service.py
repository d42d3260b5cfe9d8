"""A service whose event loop and interpreter lock are never free: `python -m bench.busy_service`.

It does nothing but publish its health. Prints one line of JSON with its port, then obeys words on
stdin: `start` ends its start, `busy` and `calm` begin and end the load, `stick` and `free` make the
loop stand still and run again, `drain` and `end` are what they say. The one argument holds the
settings of its health port, as JSON.
"""

import asyncio
import json
import os
import sys
import threading
import time

import uvloop

from headrace.runtime.logs import configure_logs
from headrace.telemetry.health_port import open_health
from headrace.telemetry.health_report import HealthReport
from headrace.telemetry.settings import HealthSettings

SERVICE = "bench.v1.BusyService"
_SPIN_SECONDS = 0.2
_NUM_THREADS = 2


class BusyService:
    """Obeys one word after the other."""

    def __init__(self) -> None:
        self.report = HealthReport(self._render)
        self.ended = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._is_busy = False
        self._free = threading.Event()
        self._num_rendered = 0

    def listen(self) -> None:
        """Take words until stdin ends; on a thread of its own."""
        for line in sys.stdin:
            word = line.strip()
            if word == "free":
                self._free.set()
            else:
                self._loop.call_soon_threadsafe(self._obey, word)
        self._loop.call_soon_threadsafe(self.ended.set)

    def _obey(self, word: str) -> None:
        match word:
            case "start":
                self.report.serve()
            case "busy":
                self._load()
            case "calm":
                self._is_busy = False
            case "stick":
                self._stick()
            case "drain":
                self.report.drain()
            case "end":
                self.ended.set()
            case _:
                raise ValueError(word)

    def _load(self) -> None:
        self._is_busy = True
        for _ in range(_NUM_THREADS):
            threading.Thread(target=self._spin_on, daemon=True).start()
        self._loop.call_soon(self._spin_in_turns)

    def _spin_in_turns(self) -> None:
        _spin(_SPIN_SECONDS)
        if self._is_busy:
            self._loop.call_soon(self._spin_in_turns)

    def _spin_on(self) -> None:
        while self._is_busy:
            _spin(_SPIN_SECONDS)

    def _stick(self) -> None:
        self._free.clear()
        while not self._free.is_set():
            _spin(0.001)

    def _render(self) -> bytes:
        self._num_rendered += 1
        name = "bench_rendered_total"
        text = f"# HELP {name} Times.\n# TYPE {name} counter\n{name} {self._num_rendered}\n"
        return text.encode()


def _spin(seconds: float) -> None:
    """Work in pure Python, which holds the interpreter's lock."""
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        pass


async def _serve(settings: HealthSettings) -> None:
    service = BusyService()
    async with open_health(settings, service.report, [SERVICE]) as port:
        sys.stdout.write(json.dumps({"port": port, "pid": os.getpid()}) + "\n")
        sys.stdout.flush()
        threading.Thread(target=service.listen, daemon=True).start()
        await service.ended.wait()


if __name__ == "__main__":
    configure_logs(service="busy")
    uvloop.run(_serve(HealthSettings.model_validate_json(sys.argv[1])))

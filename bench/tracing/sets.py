"""The sets of services that are compared, as real processes: alike but for tracing.

Two sets trace nothing: what they differ by is what the measurement cannot see.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.services import Services, running_services
from bench.streaming.cpu import cpu_seconds
from bench.streaming.stack import await_listening, free_port, process
from bench.tracing.figures import Figures, read_figures

SERVICES = ("edge", "tokenizer", "worker")
OFF, AGAIN, NONE, ALL = "off", "off again", "0 %", "100 %"
RATIOS: Mapping[str, float | None] = {OFF: None, AGAIN: None, NONE: 0.0, ALL: 1.0}
"""Which part of the requests each set traces; None: tracing is off."""


@dataclass(frozen=True)
class Running:
    """One set of services, and the health port of each."""

    services: Services
    health_ports: Mapping[str, int]

    def cpu(self) -> dict[str, float]:
        """CPU seconds so far, by service."""
        return {name: cpu_seconds(self.services.pids[name]) for name in SERVICES}

    def figures(self) -> dict[str, Figures]:
        """What the services say of themselves."""
        return {name: read_figures(port) for name, port in self.health_ports.items()}


def order_of(start: int) -> Sequence[str]:
    """In which order a start begins its sets and asks them: each is first as often as the others.

    Every second time round it is reversed, so that nobody always follows the same neighbour.
    """
    modes = list(RATIOS)
    turns, first = divmod(start, len(modes))
    turned = modes[first:] + modes[:first]
    return turned[::-1] if turns % 2 else turned


@contextmanager
def running_sets(model: str, order: Sequence[str], folder: Path) -> Iterator[dict[str, Running]]:
    """All sets in fresh processes, begun in that order, and a collector that throws all away."""
    sink_port = free_port()
    with ExitStack() as stack:
        stack.enter_context(
            process(["-m", "bench.tracing.sink", str(sink_port)], folder / "sink.log")
        )
        await_listening(sink_port, folder)
        yield {
            mode: stack.enter_context(
                _running(model, RATIOS[mode], sink_port, folder / f"set-{number}")
            )
            for number, mode in enumerate(order)
        }


@contextmanager
def _running(model: str, ratio: float | None, sink_port: int, folder: Path) -> Iterator[Running]:
    folder.mkdir()
    ports = {name: free_port() for name in SERVICES}
    tables: dict[str, dict[str, str | int | float | bool | list[str]]] = {
        "worker": {"engine": "paced"},
        "worker.paced": {"tokens_per_second": 200.0},
    }
    for name, port in ports.items():
        tables[f"{name}.telemetry.health"] = {"port": port}
        if ratio is not None:
            endpoint = f"http://127.0.0.1:{sink_port}"
            tables[f"{name}.telemetry.tracing"] = {"endpoint": endpoint, "sample_ratio": ratio}
    with running_services(model, tables, folder) as services:
        yield Running(services, ports)

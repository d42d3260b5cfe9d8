"""Edge, tokenizer and worker with the CPU engine, as real processes on loopback."""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.streaming.stack import await_listening, await_ready, free_port, process

Tables = Mapping[str, Mapping[str, str | int | float | bool | list[str]]]


@dataclass(frozen=True)
class Services:
    """Running services: the edge's port, the addresses of the others, process ids by service."""

    edge_port: int
    tokenizer_address: str
    worker_address: str
    pids: Mapping[str, int]


@contextmanager
def running_services(model: str, tables: Tables, folder: Path) -> Iterator[Services]:
    """One of each, ended with the context; configuration and logs are written to `folder`.

    `tables` holds further settings by table, such as `worker.openvino`. Raises TimeoutError, with
    the ends of the logs, when they are not ready within a minute.
    """
    edge_port, tokenizer_port, worker_port = free_port(), free_port(), free_port()
    tokenizer, worker = f"127.0.0.1:{tokenizer_port}", f"127.0.0.1:{worker_port}"
    all_tables: dict[str, dict[str, str | int | float | bool | list[str]]] = {
        "edge.server": {"port": edge_port},
        "edge.backend": {"tokenizer_addresses": [tokenizer], "worker_addresses": [worker]},
        "tokenizer": {"models": [model], "port": tokenizer_port},
        "worker": {"model": model, "port": worker_port},
    }
    for name, settings in tables.items():
        all_tables.setdefault(name, {}).update(settings)
    config = folder / "settings.toml"
    config.write_text(_toml(all_tables), encoding="utf-8")
    # However this process ends, nothing that it started stays.
    parent = ["--die-with-parent", str(os.getpid())]
    common = ["--config", str(config), "--log-level", "warning", *parent]
    with ExitStack() as stack:

        def start(service: str) -> int:
            command = ["-m", "headrace", service, *common]
            return stack.enter_context(process(command, folder / f"{service}.log")).pid

        pids = {service: start(service) for service in ("tokenizer", "worker")}
        # The edge last: it then connects to both at its first attempt.
        for port in (tokenizer_port, worker_port):
            await_listening(port, folder)
        pids["edge"] = start("edge")
        await_ready(edge_port, folder)
        yield Services(edge_port, tokenizer, worker, pids)


def _toml(tables: Tables) -> str:
    # Of strings, numbers, booleans and lists of strings, JSON's spelling is TOML's.
    lines = []
    for name, settings in tables.items():
        lines.append(f"[{name}]")
        lines += [f"{key} = {json.dumps(value)}" for key, value in settings.items()]
    return "\n".join(lines) + "\n"

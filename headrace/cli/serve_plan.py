"""What `headrace serve` starts: which commands, on which addresses, with which probes."""

import json
import os
import sys
from argparse import Namespace
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from headrace.cli.child import ChildSpec
from headrace.cli.engine_checks import GPU_ENGINE, end_seconds
from headrace.cli.health import grpc_healthy, http_ready
from headrace.cli.health_ports import HealthPorts, claim_health_ports
from headrace.cli.ports import PortClaims
from headrace.cli.tables import load_settings
from headrace.rpc.credentials import PeerCredentials
from headrace.runtime.errors import StartError
from headrace.telemetry.settings import TracingSettings

_LOOPBACK = "127.0.0.1"
_ANY_ADDRESS = {"0.0.0.0": _LOOPBACK, "::": "::1"}  # noqa: S104 (compared with, not bound)
# How often children send spans that are shown here: what a person hardly waits for.
_TRACE_SECONDS = 0.2
# Beyond a service's own grace: to close connections and end the interpreter.
_STOP_MARGIN_SECONDS = 5.0
_QUESTION = "What is the capital of France?"


@dataclass(frozen=True, slots=True)
class ServePlan:
    """Addresses and settings of one run, all checked. Grace periods in seconds."""

    model: str
    engine: str
    config: Path | None
    host: str
    port: int
    insecure: bool
    tls: bool
    tls_port: int | None
    peers: PeerCredentials
    wants_key: bool
    tokenizer_ports: tuple[int, ...]
    worker_ports: tuple[int, ...]
    edge_grace: float
    worker_grace: float
    tokenizer_grace: float
    log_level: str
    trace_port: int | None = None
    adapters: tuple[str, ...] = ()
    health_ports: HealthPorts = field(default_factory=HealthPorts)

    def child_specs(self, model: Path) -> list[ChildSpec]:
        """The children: tokenizers and workers first, then the edge."""
        return [
            *(self._tokenizer(index, model) for index in range(len(self.tokenizer_ports))),
            *(self._worker(index, model) for index in range(len(self.worker_ports))),
            self._edge(),
        ]

    def greeting(self, model: str, seconds: float) -> str:
        """What a person sees when everything is ready: addresses and a curl line to paste."""
        scheme, curl = ("https", "curl -Nk") if self.tls else ("http", "curl -N")
        url = f"{scheme}://{_bracketed(_ANY_ADDRESS.get(self.host, self.host))}:{self.port}"
        key = "-H 'Authorization: Bearer YOUR_KEY' " if self.wants_key else ""
        body = {
            "model": model,
            "messages": [{"role": "user", "content": _QUESTION}],
            "max_tokens": 100,
            "stream": True,
        }
        return (
            f"\nHeadrace serves {model} ({self.engine} engine), ready in {seconds:.1f} s\n\n"
            f"  edge       {url}/v1\n"
            f"{self._beside()}"
            f"{self._adapters()}"
            f"  tokenizer  {', '.join(_addresses(self.tokenizer_ports))}\n"
            f"  worker     {', '.join(_addresses(self.worker_ports))}\n"
            f"{self.health_ports.greeting()}{self._traces()}\n"
            f"Try it (Ctrl-C here ends everything):\n\n"
            f"{curl} {url}/v1/chat/completions -H 'Content-Type: application/json' {key}"
            f"-d '{json.dumps(body)}'\n\n"
        )

    def _adapters(self) -> str:
        """Names beside the model's that a request may ask for."""
        return f"  adapters   {', '.join(self.adapters)}\n" if self.adapters else ""

    def _beside(self) -> str:
        """The second address of an edge that has one for TLS."""
        if self.tls_port is None:
            return ""
        host = _bracketed(_ANY_ADDRESS.get(self.host, self.host))
        return f"             https://{host}:{self.tls_port}/v1\n"

    def _traces(self) -> str:
        return "" if self.trace_port is None else "  traces     below, as requests end\n"

    def _tokenizer(self, index: int, model: Path) -> ChildSpec:
        port = self.tokenizer_ports[index]
        models = json.dumps([str(model)])
        flags = ("--models", models, "--host", _LOOPBACK, "--port", str(port))
        return ChildSpec(
            name=_numbered("tokenizer", index, self.tokenizer_ports),
            address=f"{_LOOPBACK}:{port}",
            command=self._command(
                "tokenizer", *flags, *self.health_ports.flags("tokenizer", index)
            ),
            probe=partial(grpc_healthy, _LOOPBACK, port, self.peers),
            rank=0,
            stop_seconds=self.tokenizer_grace + _STOP_MARGIN_SECONDS,
        )

    def _worker(self, index: int, model: Path) -> ChildSpec:
        port = self.worker_ports[index]
        where = ("--host", _LOOPBACK, "--port", str(port))
        flags = ("--model", str(model), *where, "--engine", self.engine)
        return ChildSpec(
            name=_numbered("worker", index, self.worker_ports),
            address=f"{_LOOPBACK}:{port}",
            command=self._command("worker", *flags, *self.health_ports.flags("worker", index)),
            probe=partial(grpc_healthy, _LOOPBACK, port, self.peers),
            rank=1,
            stop_seconds=self.worker_grace + _STOP_MARGIN_SECONDS,
        )

    def _edge(self) -> ChildSpec:
        flags = ["--server.host", self.host, "--server.port", str(self.port)]
        flags += ["--server.insecure", json.dumps(self.insecure)]
        if self.tls_port is not None:
            flags += ["--server.tls_port", str(self.tls_port)]
        tokenizers, workers = _addresses(self.tokenizer_ports), _addresses(self.worker_ports)
        flags += ["--backend.tokenizer_addresses", json.dumps(tokenizers)]
        flags += ["--backend.worker_addresses", json.dumps(workers)]
        host = _ANY_ADDRESS.get(self.host, self.host)
        return ChildSpec(
            name="edge",
            address=f"{_bracketed(self.host)}:{self.port}",
            command=self._command("edge", *flags, *self.health_ports.flags("edge", 0)),
            probe=partial(http_ready, host, self.port, tls=self.tls),
            rank=2,
            stop_seconds=self.edge_grace + _STOP_MARGIN_SECONDS,
        )

    def _command(self, service: str, *flags: str) -> tuple[str, ...]:
        # -P: a folder named `worker` or `edge` in the current directory is not imported.
        config = ("--config", str(self.config)) if self.config else ()
        style = "pretty" if sys.stderr.isatty() else "json"
        log = ("--log-level", self.log_level, "--log-format", style)
        parent = ("--die-with-parent", str(os.getpid()))
        return (
            *(sys.executable, "-P", "-m", "headrace", service),
            *(*config, *log, *parent, *self._tracing_flags(), *flags),
        )

    def _tracing_flags(self) -> tuple[str, ...]:
        """Every request's spans, soon, to ourselves."""
        if self.trace_port is None:
            return ()
        return (
            *("--telemetry.tracing.endpoint", f"http://{_LOOPBACK}:{self.trace_port}"),
            *("--telemetry.tracing.sample_ratio", "1"),
            *("--telemetry.tracing.export_interval_seconds", str(_TRACE_SECONDS)),
        )


def make_plan(arguments: Namespace) -> ServePlan:
    """Read the settings and check the ports. Raises StartError."""
    # Services' settings are read here only to know addresses, model and grace periods.
    from edge.settings import EdgeSettings  # noqa: PLC0415 (importing the CLI imports no service)
    from tokenizer_svc.settings import TokenizerSettings  # noqa: PLC0415 (likewise)
    from worker.settings import WorkerSettings  # noqa: PLC0415 (likewise)

    edge = load_settings("edge", EdgeSettings, arguments.config)
    tokenizer = load_settings("tokenizer", TokenizerSettings, arguments.config)
    worker = load_settings("worker", WorkerSettings, arguments.config)
    for name, tls in (("tokenizer", tokenizer.tls), ("worker", worker.tls)):
        _require_same(name, is_on=tls.is_on, is_expected=edge.backend.tls.is_on)
    for name, keys in (("tokenizer", tokenizer.keys), ("worker", worker.keys)):
        _require_own_key(name, keys.file, edge.backend.api_key_file)
    if arguments.trace:
        _require_no_collector(
            edge=edge.telemetry.tracing,
            tokenizer=tokenizer.telemetry.tracing,
            worker=worker.telemetry.tracing,
        )
    host = arguments.host or edge.server.host
    edge_port = _given(arguments.port, edge.server.port)
    tokenizer_port = _given(arguments.tokenizer_port, tokenizer.port)
    worker_port = _given(arguments.worker_port, worker.port)
    engine = arguments.engine or worker.engine
    claims = PortClaims()
    plan = ServePlan(
        model=arguments.model or worker.model,
        engine=engine,
        config=arguments.config,
        host=host,
        port=claims.claim(host, edge_port, "the edge", "--port"),
        insecure=arguments.insecure or edge.server.insecure,
        tls=edge.server.tls_certificate_file is not None and edge.server.tls_port is None,
        tls_port=_claimed_beside(claims, host, edge.server.tls_port),
        peers=PeerCredentials(edge.backend.tls),
        wants_key=edge.keys.file is not None,
        tokenizer_ports=_claimed(
            claims, tokenizer_port, arguments.tokenizers, "tokenizer", "--tokenizer-port"
        ),
        worker_ports=_claimed(claims, worker_port, arguments.workers, "worker", "--worker-port"),
        edge_grace=edge.server.drain_grace_seconds,
        worker_grace=worker.drain_grace_seconds
        + end_seconds(engine, worker.tensorrt_llm.shutdown_seconds),
        tokenizer_grace=tokenizer.drain_grace_seconds,
        log_level=arguments.log_level,
        adapters=tuple(sorted(worker.tensorrt_llm.lora_adapters)) if engine == GPU_ENGINE else (),
        health_ports=claim_health_ports(
            claims,
            arguments.health_port,
            {
                "edge": edge.telemetry.health,
                "tokenizer": tokenizer.telemetry.health,
                "worker": worker.telemetry.health,
            },
            {"edge": 1, "tokenizer": arguments.tokenizers, "worker": arguments.workers},
        ),
        trace_port=claims.claim(_LOOPBACK, 0, "--trace", "nothing") if arguments.trace else None,
    )
    _require_distinct(plan)
    return plan


def _require_same(service: str, *, is_on: bool, is_expected: bool) -> None:
    """Refuse a run in which the edge could never connect."""
    if is_on and not is_expected:
        raise StartError(f"[{service}.tls] is set, and [edge.backend.tls] names no ca_file for it")
    if is_expected and not is_on:
        raise StartError(f"[edge.backend.tls] wants TLS, and [{service}.tls] has no certificate")


def _require_own_key(service: str, keys: Path | None, own_key: Path | None) -> None:
    """Refuse a run in which the edge would be turned away for want of a key."""
    if keys is not None and own_key is None:
        raise StartError(
            f"[{service}.keys] names a file, and the edge has no key to show: write a trusted one "
            "into a file of its own and name it in [edge.backend] api_key_file"
        )


def _require_no_collector(**services: TracingSettings) -> None:
    """Refuse a run whose spans would not arrive where the settings say."""
    for name, tracing in services.items():
        if tracing.endpoint:
            raise StartError(
                f"--trace shows spans here instead of sending them to {tracing.endpoint}: leave "
                f"out --trace, or the endpoint ([{name}.telemetry.tracing] endpoint, or "
                "OTEL_EXPORTER_OTLP_ENDPOINT)"
            )


def _claimed_beside(claims: PortClaims, host: str, port: int | None) -> int | None:
    if port is None:
        return None
    return claims.claim(host, port, "the edge's TLS", "edge.server.tls_port")


def _given(flag: int | None, setting: int) -> int:
    return setting if flag is None else flag


def _claimed(claims: PortClaims, first: int, count: int, name: str, flag: str) -> tuple[int, ...]:
    """Consecutive ports from `first`; for 0, any free ones."""
    wanted = [first + index if first else 0 for index in range(count)]
    if wanted[-1] > 65535:
        raise StartError(f"{count} {name}s from port {first} on end beyond port 65535: see {flag}")
    return tuple(claims.claim(_LOOPBACK, port, f"the {name}", flag) for port in wanted)


def _require_distinct(plan: ServePlan) -> None:
    beside = () if plan.tls_port is None else (plan.tls_port,)
    ports = (plan.port, *beside, *plan.tokenizer_ports, *plan.worker_ports)
    ports += plan.health_ports.ports
    twice = {port for port in ports if ports.count(port) > 1}
    if twice:
        raise StartError(
            f"two services would listen on port {min(twice)}: choose others by --port, "
            "--tokenizer-port, --worker-port or --health-port"
        )


def _numbered(name: str, index: int, ports: tuple[int, ...]) -> str:
    return name if len(ports) == 1 else f"{name} {index + 1}"


def _addresses(ports: tuple[int, ...]) -> list[str]:
    return [f"{_LOOPBACK}:{port}" for port in ports]


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host

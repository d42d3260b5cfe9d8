"""The addresses behind a Service: of ready pods at once, gone some time after they are not."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from tests.kubelet.events import EventLog
from tests.kubelet.fields import RefusedError, require_known
from tests.kubelet.pod import Pod


@dataclass(frozen=True, slots=True)
class ServiceSpec:
    """As rendered; its first port counts."""

    name: str
    namespace: str
    selector: Mapping[str, str]
    target_port: str
    is_headless: bool

    @classmethod
    def read(cls, item: Mapping[str, Any]) -> Self:
        """Raises RefusedError."""
        name, spec = item["metadata"]["name"], item["spec"]
        where = f"Service {name}"
        require_known(where, spec, {"clusterIP", "ports", "selector", "type"})
        if spec.get("type", "ClusterIP") != "ClusterIP":
            raise RefusedError(f"{where}: the mini-kubelet knows no type {spec['type']}")
        port = spec["ports"][0]
        require_known(f"{where}.ports", port, {"name", "port", "targetPort"}, {"appProtocol"})
        is_headless = spec.get("clusterIP") == "None"
        return cls(
            name, item["metadata"]["namespace"], spec["selector"], port["targetPort"], is_headless
        )

    def selects(self, pod: Pod) -> bool:
        """By the pod's labels."""
        return self.selector.items() <= pod.template.labels.items()


class Endpoints:
    """Of one Service."""

    def __init__(
        self, spec: ServiceSpec, lag: float, events: EventLog, changed: Callable[[], None]
    ) -> None:
        self.spec = spec
        self.hosts: list[str] = []
        """The pods' IPs, in the order in which they came."""
        self._lag = lag
        self._events = events
        self._changed = changed
        self._ports: dict[str, int] = {}
        self._leaving: dict[str, asyncio.TimerHandle] = {}

    @property
    def addresses(self) -> Sequence[str]:
        """ip:port of each."""
        return [self._address(host) for host in self.hosts]

    def follow(self, pods: Sequence[Pod]) -> None:
        """Take who is ready, and begin to forget who no longer is."""
        ready = {pod.address: pod for pod in pods if pod.is_ready and self.spec.selects(pod)}
        for host, pod in ready.items():
            self._keep(host, pod)
        for host in self.hosts:
            if host not in ready and host not in self._leaving:
                loop = asyncio.get_running_loop()
                self._leaving[host] = loop.call_later(self._lag, self._remove, host)

    def close(self) -> None:
        """Nobody asks any more."""
        for timer in self._leaving.values():
            timer.cancel()

    def _keep(self, host: str, pod: Pod) -> None:
        if host in self._leaving:
            self._leaving.pop(host).cancel()
        if host not in self.hosts:
            self._ports[host] = pod.template.container.ports[self.spec.target_port]
            self.hosts.append(host)
            self._events.note("endpoint_added", self.spec.name, self._address(host))
            self._changed()

    def _remove(self, host: str) -> None:
        del self._leaving[host]
        self.hosts.remove(host)
        self._events.note("endpoint_removed", self.spec.name, self._address(host))
        self._changed()

    def _address(self, host: str) -> str:
        return f"{host}:{self._ports[host]}"

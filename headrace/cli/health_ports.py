"""The health ports of what `headrace serve` starts: one for each service, or none."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from headrace.cli.ports import PortClaims
from headrace.runtime.errors import StartError
from headrace.runtime.listening import host_and_port
from headrace.telemetry.settings import HealthSettings

FLAG = "--health-port"
Replica: TypeAlias = tuple[str, int]
"""A service and which of its processes, from 0."""


@dataclass(frozen=True, slots=True)
class HealthPorts:
    """Host and port by process; processes without a health port are not in it."""

    by_replica: Mapping[Replica, tuple[str, int]] = field(default_factory=dict)

    @property
    def ports(self) -> tuple[int, ...]:
        """All of them."""
        return tuple(port for _, port in self.by_replica.values())

    def flags(self, service: str, index: int) -> tuple[str, ...]:
        """What tells the process."""
        if (service, index) not in self.by_replica:
            return ()
        return ("--telemetry.health.port", str(self.by_replica[service, index][1]))

    def greeting(self) -> str:
        """A line that says where they are; empty where there are none."""
        if not self.by_replica:
            return ""
        shown = (
            f"{host_and_port(host, port)} ({name})"
            for (name, _), (host, port) in self.by_replica.items()
        )
        return f"  health     {', '.join(shown)}\n"


def claim_health_ports(
    claims: PortClaims,
    first: int | None,
    settings: Mapping[str, HealthSettings],
    counts: Mapping[str, int],
) -> HealthPorts:
    """Consecutive ports from `first` for all; where that is None, what each service's settings say.

    Services come in the order of `settings`; 0 is any free port. Raises StartError.
    """
    claimed: dict[Replica, tuple[str, int]] = {}
    for service, health in settings.items():
        for index in range(counts[service]):
            base, offset = (health.port, index) if first is None else (first, len(claimed))
            if base is not None:
                port = base + offset if base else 0
                claimed[service, index] = (
                    health.host,
                    _claim(claims, health.host, port, service),
                )
    return HealthPorts(claimed)


def _claim(claims: PortClaims, host: str, port: int, service: str) -> int:
    if port > 65535:
        raise StartError(f"the health ports end beyond port 65535: see {FLAG}")
    return claims.claim(host, port, f"the {service}'s health", FLAG)

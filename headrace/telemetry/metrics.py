"""What the metrics of all services have in common."""

from prometheus_client import CollectorRegistry, generate_latest

from headrace.runtime.identity import Identity


class ServiceMetrics:
    """A service's figures, in a registry of their own; `headrace_<service>_` begins its names."""

    def __init__(self, service: str, identity: Identity) -> None:
        self.registry = CollectorRegistry()
        self.service = service
        self.identity = identity

    def render(self) -> bytes:
        """All figures in Prometheus' text format; takes milliseconds, for a thread."""
        return generate_latest(self.registry)

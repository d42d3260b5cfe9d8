"""The edge's own figures for Prometheus, in a registry of their own."""

from collections.abc import Callable

from prometheus_client import Counter, Gauge

from headrace.runtime.identity import Identity
from headrace.telemetry.metrics import ServiceMetrics


class EdgeMetrics(ServiceMetrics):
    """Counted once a request, never once a token."""

    def __init__(self, identity: Identity) -> None:
        super().__init__("edge", identity)
        self.requests = Counter(
            "headrace_edge_requests",
            "HTTP requests answered, by route and status; 499 = the client left.",
            ("route", "status"),
            registry=self.registry,
        )
        self.failures = Counter(
            "headrace_edge_failures",
            "Requests that failed, by reason; also after the headers of a stream.",
            ("reason",),
            registry=self.registry,
        )
        self.aborted = Counter(
            "headrace_edge_aborted_generations",
            "Generations aborted before their end.",
            registry=self.registry,
        )

    def watch_admission(
        self, *, num_running: Callable[[], int], num_queued: Callable[[], int]
    ) -> None:
        """Tell of admission whenever somebody asks."""
        self._gauge("headrace_edge_requests_in_flight", "Chat requests at work.", num_running)
        self._gauge("headrace_edge_requests_queued", "Chat requests in the queue.", num_queued)

    def _gauge(self, name: str, text: str, read: Callable[[], int]) -> None:
        Gauge(name, text, registry=self.registry).set_function(read)

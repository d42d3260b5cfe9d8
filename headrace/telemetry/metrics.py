"""What the metrics of all services have in common."""

from collections.abc import Iterator
from contextlib import contextmanager

from prometheus_client import (
    CollectorRegistry,
    GCCollector,
    Histogram,
    Info,
    ProcessCollector,
    generate_latest,
)

from headrace.runtime.identity import Identity
from headrace.telemetry import buckets
from headrace.telemetry.loop_lag import watched_loop
from headrace.telemetry.span_counts import SpanCounts


class ServiceMetrics:
    """A service's figures, in a registry of their own; `headrace_<service>_` begins its names."""

    def __init__(self, service: str, identity: Identity) -> None:
        self.registry = CollectorRegistry()
        self.service = service
        self.identity = identity
        ProcessCollector(registry=self.registry)
        GCCollector(registry=self.registry)
        Info("headrace_build", "Which build and start this is.", registry=self.registry).info(
            {"service": service, "build": identity.build, "instance_id": identity.instance_id}
        )
        self.spans = SpanCounts(self.registry)
        self._loop_lag = Histogram(
            "headrace_loop_lag_seconds",
            "How late the event loop did what was due, probed ten times a second.",
            buckets=buckets.LOOP_LAG,
            registry=self.registry,
        )

    @contextmanager
    def watched_loop(self) -> Iterator[None]:
        """Measure the running loop's lag until the context is left."""
        with watched_loop(self._loop_lag.observe):
            yield

    def render(self) -> bytes:
        """All figures in Prometheus' text format; takes milliseconds, for a thread."""
        return generate_latest(self.registry)

"""A service's telemetry as one thing: what it counts, and where its spans go."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from headrace.telemetry.metrics import ServiceMetrics
from headrace.telemetry.settings import TelemetrySettings
from headrace.telemetry.spans import NoTracing, Tracing
from headrace.telemetry.tracing import open_tracing

MetricsT = TypeVar("MetricsT", bound=ServiceMetrics)


@dataclass(frozen=True, slots=True)
class Telemetry(Generic[MetricsT]):
    """Handed down from the service's main module; by default no spans are made."""

    metrics: MetricsT
    tracing: Tracing = field(default_factory=NoTracing)


@asynccontextmanager
async def open_telemetry(
    settings: TelemetrySettings, metrics: MetricsT
) -> AsyncIterator[Telemetry[MetricsT]]:
    """Until the context is left; what then waits to be sent is sent or dropped.

    Leaving takes `export_timeout_seconds` of the settings at most.
    """
    tracing = open_tracing(settings.tracing, metrics.service, metrics.identity, metrics.spans)
    with metrics.watched_loop():
        async with tracing as spans:
            yield Telemetry(metrics, spans)

"""Tracing of a process as its settings want it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from headrace.runtime.identity import Identity
from headrace.telemetry.settings import TracingSettings
from headrace.telemetry.span_counts import SpanCounts
from headrace.telemetry.spans import NoTracing, Tracing


@asynccontextmanager
async def open_tracing(
    settings: TracingSettings,
    service: str,
    identity: Identity,
    counts: SpanCounts | None = None,
) -> AsyncIterator[Tracing]:
    """Make spans of `service` until the context is left; what waits then is sent or dropped.

    Leaving takes `export_timeout_seconds` at most. Raises StartError for certificates and headers
    that cannot be used, and headers that may not be sent.
    """
    if not settings.endpoint:
        yield NoTracing()
        return
    # It takes OpenTelemetry's SDK along, for which a service that sends no spans need not wait.
    from headrace.telemetry.recording_tracing import open_recording  # noqa: PLC0415

    async with open_recording(settings, service, identity, counts) as tracing:
        yield tracing

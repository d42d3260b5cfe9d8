"""Sends what waits, one batch after the other, on the service's loop.

On the loop and not on a thread: a batch is small, encoded within a millisecond or two and sent by
gRPC's core, while a thread would contend for the interpreter at moments of its own choosing.
"""

import asyncio
import random
from typing import Final

import structlog
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.resource.v1.resource_pb2 import Resource

from headrace.telemetry.collector import Collector, CollectorError
from headrace.telemetry.settings import TracingSettings
from headrace.telemetry.span_counts import REJECTED, SHUTDOWN, SpanCounts
from headrace.telemetry.span_encoding import encode_batch
from headrace.telemetry.span_queue import SpanQueue

MAX_BATCH_SPANS: Final = 128
"""Taken at once of what has gathered while another batch was under way."""
NOT_IN_TIME: Final = "the collector did not take them in time"
_FIRST_WAIT_SECONDS: Final = 0.25
_LONGEST_WAIT_SECONDS: Final = 5.0
_log = structlog.get_logger(__name__)


class SpanExporter:
    """Empties one queue into one collector."""

    def __init__(
        self,
        queue: SpanQueue,
        collector: Collector,
        counts: SpanCounts,
        resource: Resource,
        settings: TracingSettings,
    ) -> None:
        self._queue = queue
        self._collector = collector
        self._counts = counts
        self._resource = resource
        self._settings = settings
        self._warning = ""

    async def run(self) -> None:
        """Send until the queue is closed and empty; what is under way when cancelled is lost."""
        while self._queue or not self._queue.closed.is_set():
            await self._queue.due(self._settings.export_interval_seconds)
            request, spans = encode_batch(self._resource, self._queue.take, MAX_BATCH_SPANS)
            if spans:
                await self._account(request, spans)

    async def _account(self, request: ExportTraceServiceRequest, spans: int) -> None:
        """Send a batch, and count what became of it."""
        try:
            told = (await self._deliver(request)).partial_success
        except CollectorError as error:
            self._counts.dropped(error.reason, spans, str(error))
            return
        except asyncio.CancelledError:
            self._counts.dropped(SHUTDOWN, spans, NOT_IN_TIME)
            raise
        rejected = min(max(told.rejected_spans, 0), spans)
        self._counts.dropped(REJECTED, rejected, told.error_message)
        self._counts.exported(spans - rejected)
        if not rejected and told.error_message not in ("", self._warning):
            self._warning = told.error_message
            _log.warning("collector_warns", message=told.error_message)

    async def _deliver(self, request: ExportTraceServiceRequest) -> ExportTraceServiceResponse:
        """Try until it is taken, within the time of the settings. Raises CollectorError."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._settings.export_timeout_seconds
        wait = _FIRST_WAIT_SECONDS
        while True:
            try:
                return await self._collector.export(request, deadline - loop.time())
            except CollectorError as error:
                pause = error.wished_seconds
                if pause is None:
                    # Spread, so that services whose collector comes back do not all ask at once.
                    pause = wait * random.uniform(0.5, 1)  # noqa: S311 (no secret)
                if not error.may_retry or loop.time() + pause >= deadline:
                    raise
                if await self._is_closed_within(pause):
                    raise
                wait = min(2 * wait, _LONGEST_WAIT_SECONDS)

    async def _is_closed_within(self, seconds: float) -> bool:
        """Whether the service ends meanwhile: its end waits for no second try."""
        try:
            async with asyncio.timeout(seconds):
                return await self._queue.closed.wait()
        except TimeoutError:
            return False

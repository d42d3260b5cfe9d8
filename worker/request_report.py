"""What an operator is told of one request: a span with its phases, figures, one log line.

The span lasts from the request's submission to its last end. Its phases are made then, from the
times that the engine noted, so that a running request costs nothing. A failure lands on the span
and on the phase in which it happened, on nothing else. No prompt, no answer, no key.
"""

import time
from collections.abc import Sequence

import structlog

from headrace.access.caller import ANYBODY, Caller
from headrace.rpc.call_metadata import MAX_REQUEST_ID_CHARACTERS
from headrace.rpc.errors import ServiceError
from headrace.telemetry import names
from headrace.telemetry.spans import AttributeValue, NoTracing, Span, SpanKind, Tracing
from headrace.telemetry.trace_context import TraceContext, read_trace_context
from headrace.worker.v1.generation_pb2 import GenerationRequest
from worker.metrics import WorkerMetrics
from worker.request_end import RequestEnd
from worker.request_phases import Phase, request_phases

_log = structlog.get_logger("worker.request")

_FAULT_STATUS = 500
_MAX_TENANT_CHARACTERS = 256
"""As many as a salt may have; that of a refused request may be of any length."""


class RequestReports:
    """Begins a report for each request; without arguments only log lines are written."""

    def __init__(
        self, tracing: Tracing | None = None, metrics: WorkerMetrics | None = None
    ) -> None:
        self.tracing = tracing or NoTracing()
        self.metrics = metrics

    def begin(self, wire: GenerationRequest, caller: Caller = ANYBODY) -> "RequestReport":
        """A request has come; nothing of it has been checked."""
        return RequestReport(self.tracing, self.metrics, wire, caller)


class RequestReport:
    """One request's; ended once, by `refuse` or `end`."""

    __slots__ = ("_caller", "_id", "_metrics", "_span", "_tenant", "_tracing", "submitted_at")

    def __init__(
        self,
        tracing: Tracing,
        metrics: WorkerMetrics | None,
        wire: GenerationRequest,
        caller: Caller,
    ) -> None:
        self.submitted_at = time.monotonic()
        """Of the monotonic clock, in seconds."""
        self._tracing = tracing
        self._metrics = metrics
        self._caller = caller
        self._tenant = caller.tenant_of(wire.cache_salt)[:_MAX_TENANT_CHARACTERS]
        self._id = wire.request_id[:MAX_REQUEST_ID_CHARACTERS]
        self._span = tracing.begin(
            names.GENERATE_METHOD,
            SpanKind.SERVER,
            read_trace_context([wire.traceparent], [wire.tracestate]),
            at_ns=tracing.clock.epoch_ns(self.submitted_at),
        )

    @property
    def request_id(self) -> str:
        """The caller's, bounded."""
        return self._id

    @property
    def trace(self) -> TraceContext:
        """For whoever works for the request: the span's, or the caller's where none is recorded."""
        return self._span.context

    def refuse(self, error: ServiceError) -> None:
        """The request was not taken; nothing of it was computed."""
        _log.info(
            "request_ended",
            request_id=self._id,
            trace_id=self.trace.trace_id,
            tenant=self._tenant,
            outcomes=[error.label],
            refused_param=error.param,
            total_ms=_milliseconds(time.monotonic() - self.submitted_at),
        )
        if self._metrics is not None:
            self._metrics.refused(error.label, self._caller.tenant_class)
        if self._span.is_recording:
            self._describe(error)
        self._span.end()

    def end(self, ended: RequestEnd) -> None:
        """The last of its outputs has ended."""
        now = time.monotonic()
        phases = request_phases(self.submitted_at, now, ended)
        if ended.abort_cause != "stream_ended":
            # What is lost together has one line; see worker.lost_requests.
            self._write_line(ended, phases, now)
        if self._metrics is not None:
            self._metrics.ended(ended, phases, now - self.submitted_at)
        span = self._span
        if span.is_recording:
            self._describe(ended.failure)
            span.set({names.OUTPUTS: ended.request.n, names.OUTCOMES: tuple(ended.outcomes)})
            self._tell_phases(ended, phases)
        span.end(self._tracing.clock.epoch_ns(now))

    def _describe(self, error: ServiceError | None) -> None:
        """The span's attributes and status."""
        attributes: dict[str, AttributeValue] = {
            names.RPC_SYSTEM: "grpc",
            names.RPC_METHOD: names.GENERATE_METHOD,
            names.RPC_STATUS: "OK" if error is None else error.row.grpc_code.name,
            names.REQUEST_ID: self._id,
        }
        if self._tenant:
            attributes[names.TENANT] = self._tenant
        self._span.set(attributes)
        if error is not None:
            _fail(self._span, error)

    def _tell_phases(self, ended: RequestEnd, phases: Sequence[Phase]) -> None:
        clock = self._tracing.clock
        for phase in phases:
            span = self._tracing.begin(
                phase.name,
                SpanKind.INTERNAL,
                self.trace,
                _phase_attributes(phase, ended),
                at_ns=clock.epoch_ns(phase.begin),
            )
            if not phase.is_whole and ended.failure is not None:
                _fail(span, ended.failure)
            span.end(clock.epoch_ns(phase.end))

    def _write_line(self, ended: RequestEnd, phases: Sequence[Phase], now: float) -> None:
        times = {phase.name: _milliseconds(phase.seconds) for phase in phases}
        started = ended.started
        _log.info(
            "request_ended",
            request_id=self._id,
            trace_id=self.trace.trace_id,
            tenant=self._tenant,
            outcomes=list(ended.outcomes),
            abort_cause=ended.abort_cause,
            prompt_tokens=len(ended.request.prompt_token_ids),
            cached_prompt_tokens=None if started is None else started.cached_prompt_tokens,
            output_tokens=ended.output_tokens,
            queue_ms=times[names.QUEUE_PHASE],
            prefill_ms=times.get(names.PREFILL_PHASE),
            decode_ms=times.get(names.DECODE_PHASE),
            total_ms=_milliseconds(now - self.submitted_at),
        )


def _phase_attributes(phase: Phase, ended: RequestEnd) -> dict[str, AttributeValue]:
    if phase.name == names.DECODE_PHASE:
        return {names.OUTPUT_TOKENS: ended.output_tokens}
    started = ended.started
    if phase.name == names.PREFILL_PHASE and started is not None:
        cached = started.cached_prompt_tokens
        return {
            names.CACHED_TOKENS: cached,
            names.COMPUTED_TOKENS: started.prompt_tokens - cached,
        }
    return {}


def _milliseconds(seconds: float) -> float:
    return round(seconds * 1000, 1)


def _fail(span: Span, error: ServiceError) -> None:
    # Other messages quote what the caller sent.
    is_ours = error.row.http_status >= _FAULT_STATUS
    span.fail(error.label, error.message if is_ours else "")

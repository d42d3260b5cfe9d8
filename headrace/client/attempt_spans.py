"""The client spans of one request's attempts on workers: at most one is open.

An attempt's span is the parent of what its worker says; it ends with the attempt, whichever way
that ends, and once.
"""

from headrace.client.answers import GenerationOptions
from headrace.client.span_ends import address_attributes, end_rpc
from headrace.rpc.errors import ServiceError
from headrace.telemetry import names
from headrace.telemetry.spans import Span, SpanKind, Tracing
from headrace.telemetry.trace_context import TraceContext


class AttemptSpans:
    """Begins a span for each attempt, numbered from 1."""

    __slots__ = ("_options", "_span", "_tracing")

    def __init__(self, tracing: Tracing, options: GenerationOptions) -> None:
        self._tracing = tracing
        self._options = options
        self._span: Span | None = None

    def begin(self, address: str, attempt: int) -> TraceContext:
        """An attempt on the worker at `address` begins; returns what the worker is told."""
        span = self._tracing.begin(names.GENERATE_METHOD, SpanKind.CLIENT, self._options.trace)
        self._span = span
        if span.is_recording:
            span.set(
                {
                    names.RPC_SYSTEM: "grpc",
                    names.RPC_METHOD: names.GENERATE_METHOD,
                    names.REQUEST_ID: self._options.request_id,
                    names.ATTEMPT: attempt,
                    names.OUTPUTS: self._options.n,
                    **address_attributes(address),
                }
            )
        return span.context

    def started(self, cached_tokens: int) -> None:
        """The worker took the attempt up, and so many tokens of the prompt were cached."""
        if self._span is not None and self._span.is_recording:
            self._span.set({names.CACHED_TOKENS: cached_tokens})

    def end(self, error: ServiceError | None, output_tokens: int) -> None:
        """The attempt ended with so many tokens, and with an error if it failed."""
        span, self._span = self._span, None
        if span is None:
            return
        if span.is_recording:
            span.set({names.OUTPUT_TOKENS: output_tokens})
        end_rpc(span, error)

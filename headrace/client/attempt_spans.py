"""The client spans of one request's attempts on workers.

An attempt is what a worker is given at one time: at first all outputs, later those that go on
there. Its span is the parent of what the worker says, and ends, once, with the last of these
outputs; those that stay where they are know nothing of one that moves.
"""

from headrace.client.answers import GenerationOptions
from headrace.client.span_ends import address_attributes, end_rpc
from headrace.rpc.errors import ServiceError
from headrace.telemetry import names
from headrace.telemetry.spans import Span, SpanKind, Tracing
from headrace.telemetry.trace_context import TraceContext


class AttemptSpan:
    """One attempt. Whoever joins it leaves it, once."""

    __slots__ = ("_error", "_num_aboard", "_output_tokens", "_span")

    def __init__(self, span: Span) -> None:
        self._span = span
        self._num_aboard = self._output_tokens = 0
        self._error: ServiceError | None = None

    @property
    def context(self) -> TraceContext:
        """What the worker is told."""
        return self._span.context

    def join(self) -> None:
        """An output is part of it."""
        self._num_aboard += 1

    def started(self, cached_tokens: int) -> None:
        """The worker took it up, and so many tokens of the prompt were cached."""
        if self._span.is_recording:
            self._span.set({names.CACHED_TOKENS: cached_tokens})

    def leave(self, output_tokens: int, error: ServiceError | None) -> None:
        """An output is over here, with so many tokens, or goes on elsewhere because of an error.

        The first error is the attempt's, as on the worker's side.
        """
        self._num_aboard -= 1
        self._output_tokens += output_tokens
        self._error = self._error or error
        if not self._num_aboard:
            if self._span.is_recording:
                self._span.set({names.OUTPUT_TOKENS: self._output_tokens})
            end_rpc(self._span, self._error)


class AttemptSpans:
    """Begins a span for each attempt, numbered from 1."""

    __slots__ = ("_options", "_tracing")

    def __init__(self, tracing: Tracing, options: GenerationOptions) -> None:
        self._tracing = tracing
        self._options = options

    def begin(self, address: str, attempt: int, num_outputs: int) -> AttemptSpan:
        """An attempt on the worker at `address` begins, for outputs that are to join it."""
        span = self._tracing.begin(names.GENERATE_METHOD, SpanKind.CLIENT, self._options.trace)
        if span.is_recording:
            span.set(
                {
                    names.RPC_SYSTEM: "grpc",
                    names.RPC_METHOD: names.GENERATE_METHOD,
                    names.REQUEST_ID: self._options.request_id,
                    names.ATTEMPT: attempt,
                    names.OUTPUTS: num_outputs,
                    **address_attributes(address),
                }
            )
        return AttemptSpan(span)

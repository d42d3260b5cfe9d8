"""The client span of one try to render, and the metadata that names it to the tokenizer."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from headrace.client.span_ends import address_attributes, end_rpc, service_error_of
from headrace.common.v1 import errors_pb2
from headrace.rpc.bearer import Metadata
from headrace.rpc.call_metadata import call_metadata
from headrace.rpc.errors import ServiceError
from headrace.telemetry import names
from headrace.telemetry.spans import SpanKind, Tracing
from headrace.telemetry.trace_context import TraceContext

_CLOCK_SECONDS = 0.002  # as far as a loop's clock may be behind its timers


@dataclass(frozen=True, slots=True)
class RenderSpans:
    """Spans of one request's tries, below `trace`; `deadline` on the event loop's clock."""

    tracing: Tracing
    trace: TraceContext
    request_id: str
    deadline: float

    @contextmanager
    def attempt(self, address: str, number: int) -> Iterator[Metadata]:
        """A try at the tokenizer at `address`, from 1; gives the metadata that the call carries."""
        span = self.tracing.begin(names.RENDER_METHOD, SpanKind.CLIENT, self.trace)
        if span.is_recording:
            span.set(
                {
                    names.RPC_SYSTEM: "grpc",
                    names.RPC_METHOD: names.RENDER_METHOD,
                    names.REQUEST_ID: self.request_id,
                    names.ATTEMPT: number,
                    **address_attributes(address),
                }
            )
        try:
            yield call_metadata(span.context, self.request_id)
        except BaseException as error:
            end_rpc(span, self._failure(error))
            raise
        end_rpc(span, None)

    def _failure(self, error: BaseException) -> ServiceError:
        """At the deadline the caller may cancel the call before gRPC ends it: that is late too."""
        is_late = asyncio.get_running_loop().time() >= self.deadline - _CLOCK_SECONDS
        if is_late and isinstance(error, asyncio.CancelledError):
            reason = errors_pb2.ERROR_REASON_DEADLINE_EXCEEDED
            return ServiceError(reason, "The tokenizer did not answer in time.")
        return service_error_of(error)

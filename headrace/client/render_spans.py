"""The client span of one try to render, and the metadata that names it to the tokenizer."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from headrace.client.span_ends import address_attributes, end_rpc, service_error_of
from headrace.rpc.bearer import Metadata
from headrace.rpc.call_metadata import call_metadata
from headrace.telemetry import names
from headrace.telemetry.spans import SpanKind, Tracing
from headrace.telemetry.trace_context import TraceContext


@dataclass(frozen=True, slots=True)
class RenderSpans:
    """Spans of one request's tries, below `trace`."""

    tracing: Tracing
    trace: TraceContext
    request_id: str

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
            end_rpc(span, service_error_of(error))
            raise
        end_rpc(span, None)

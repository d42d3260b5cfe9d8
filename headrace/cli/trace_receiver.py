"""A collector for one run: takes the services' spans over OTLP on loopback.

OTLP: opentelemetry.proto.collector.trace.v1.TraceService, version 1 of the protocol. What is kept
of a span is what a tree shows; texts are cut, so that nobody can make this process large.
"""

from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager

import grpc
from opentelemetry.proto.collector.trace.v1 import (
    trace_service_pb2 as service_pb2,
)
from opentelemetry.proto.collector.trace.v1 import (
    trace_service_pb2_grpc as service_pb2_grpc,
)
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, Span, Status

from headrace.runtime.errors import StartError
from headrace.telemetry.span_tree import FinishedSpan
from headrace.telemetry.spans import AttributeValue, SpanKind

TakeSpans = Callable[[Sequence[FinishedSpan]], None]

_KINDS = {Span.SPAN_KIND_SERVER: SpanKind.SERVER, Span.SPAN_KIND_CLIENT: SpanKind.CLIENT}
_SERVICE_PREFIX = "headrace-"
_MAX_TEXT = 300
_MAX_ATTRIBUTES = 64


class _Receiver(service_pb2_grpc.TraceServiceServicer):
    def __init__(self, take: TakeSpans) -> None:
        self._take = take

    async def Export(  # noqa: N802 (the method's name in the protocol)
        self, request: service_pb2.ExportTraceServiceRequest, context: grpc.aio.ServicerContext
    ) -> service_pb2.ExportTraceServiceResponse:
        del context
        self._take(list(finished_spans(request.resource_spans)))
        return service_pb2.ExportTraceServiceResponse()


@asynccontextmanager
async def receive_spans(host: str, port: int, take: TakeSpans) -> AsyncIterator[int]:
    """Take spans until the context is left; gives the port, which is any free one for 0.

    Raises StartError where the port is taken.
    """
    # SO_REUSEPORT would let two runs share a port, and each show half of its traces.
    server = grpc.aio.server(options=(("grpc.so_reuseport", 0),))
    service_pb2_grpc.add_TraceServiceServicer_to_server(_Receiver(take), server)  # type: ignore[no-untyped-call] # generated without annotations
    try:
        bound: int = server.add_insecure_port(f"{host}:{port}")
    except RuntimeError as error:
        raise StartError(f"port {port} on {host}, where traces are received, is taken") from error
    await server.start()
    try:
        yield bound
    finally:
        await server.stop(grace=None)


def finished_spans(resources: Sequence[ResourceSpans]) -> Iterator[FinishedSpan]:
    """The spans of an export; those without valid ids are left out, as OTLP demands."""
    for resource in resources:
        service = _service(resource)
        for scope in resource.scope_spans:
            for span in scope.spans:
                if len(span.trace_id) == 16 and len(span.span_id) == 8:
                    yield _finished(span, service)


def _finished(span: Span, service: str) -> FinishedSpan:
    return FinishedSpan(
        trace_id=span.trace_id.hex(),
        span_id=span.span_id.hex(),
        parent_id=span.parent_span_id.hex(),
        name=span.name[:_MAX_TEXT],
        kind=_KINDS.get(span.kind, SpanKind.INTERNAL),
        service=service,
        start_ns=span.start_time_unix_nano,
        end_ns=span.end_time_unix_nano,
        attributes=dict(_attributes(span.attributes)),
        is_error=span.status.code == Status.STATUS_CODE_ERROR,
        message=span.status.message[:_MAX_TEXT],
    )


def _service(resource: ResourceSpans) -> str:
    found = dict(_attributes(resource.resource.attributes)).get("service.name", "")
    return str(found).removeprefix(_SERVICE_PREFIX)


def _attributes(pairs: Sequence[KeyValue]) -> Iterator[tuple[str, AttributeValue]]:
    for pair in pairs[:_MAX_ATTRIBUTES]:
        value = _value(pair.value)
        if value is not None:
            yield pair.key, value


def _value(value: AnyValue) -> AttributeValue | None:
    """A plain value or a list of texts; None for what no attribute of ours is."""
    match value.WhichOneof("value"):
        case "string_value":
            return value.string_value[:_MAX_TEXT]
        case "bool_value":
            return value.bool_value
        case "int_value":
            return value.int_value
        case "double_value":
            return value.double_value
        case "array_value":
            items = value.array_value.values[:_MAX_ATTRIBUTES]
            return [item.string_value[:_MAX_TEXT] for item in items]
        case _:
            return None

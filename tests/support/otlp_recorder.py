"""Where a collector's traces end in tests: an OTLP receiver over gRPC that keeps every span."""

import threading
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import grpc
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2_grpc import (
    TraceServiceServicer,
    add_TraceServiceServicer_to_server,
)

from tests.support.seen_spans import SeenSpan, from_otlp


class OtlpRecorder(TraceServiceServicer):
    """Keeps spans by trace; threads of its own receive them, any thread may wait for them."""

    def __init__(self) -> None:
        self._arrived = threading.Condition()
        self._traces: dict[str, list[SeenSpan]] = defaultdict(list)
        self.endpoint = ""

    def Export(  # noqa: N802 (gRPC's name)
        self, request: ExportTraceServiceRequest, context: grpc.ServicerContext
    ) -> ExportTraceServiceResponse:
        """Take a batch."""
        spans = [span for each in request.resource_spans for span in from_otlp(each)]
        with self._arrived:
            for span in spans:
                self._traces[span.trace_id].append(span)
            self._arrived.notify_all()
        return ExportTraceServiceResponse()

    def await_trace(
        self, trace_id: str, is_whole: Callable[[Sequence[SeenSpan]], bool], seconds: float
    ) -> list[SeenSpan]:
        """The trace as soon as it is whole, or what there is of it when the time is over."""
        with self._arrived:
            self._arrived.wait_for(lambda: is_whole(self._traces.get(trace_id, ())), seconds)
            return list(self._traces.get(trace_id, ()))

    @property
    def trace_ids(self) -> set[str]:
        """Of which traces anything has come."""
        with self._arrived:
            return set(self._traces)

    def spans(self, trace_id: str) -> list[SeenSpan]:
        """What has come of one trace."""
        with self._arrived:
            return list(self._traces.get(trace_id, ()))

    @property
    def num_spans(self) -> int:
        """Spans of all traces."""
        with self._arrived:
            return sum(len(spans) for spans in self._traces.values())

    def await_spans(self, count: int, seconds: float) -> int:
        """Wait until so many spans have come of all traces together; returns how many have."""

        def total() -> int:
            return sum(len(spans) for spans in self._traces.values())

        with self._arrived:
            self._arrived.wait_for(lambda: total() >= count, seconds)
            return total()


@contextmanager
def running_recorder() -> Iterator[OtlpRecorder]:
    """A recorder that listens on a free port."""
    recorder = OtlpRecorder()
    server = grpc.server(ThreadPoolExecutor(max_workers=2))
    add_TraceServiceServicer_to_server(recorder, server)
    recorder.endpoint = f"http://127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    try:
        yield recorder
    finally:
        server.stop(0).wait()

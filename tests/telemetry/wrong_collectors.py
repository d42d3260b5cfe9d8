"""Collectors that do not work: one that is deaf, one that never answers, one that refuses."""

import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import NoReturn

import grpc
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2_grpc import (
    TraceServiceServicer,
    add_TraceServiceServicer_to_server,
)


@contextmanager
def _nobody(port: int) -> Iterator[None]:
    """Nobody listens."""
    del port
    yield


@contextmanager
def _deaf(port: int) -> Iterator[None]:
    """Connections are taken, and nothing that comes over them is read."""
    with ExitStack() as connections, socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", port))
        listener.listen(16)
        has_ended = threading.Event()

        def accept() -> None:
            while not has_ended.is_set():
                connections.enter_context(listener.accept()[0])

        thread = threading.Thread(target=accept)
        thread.start()
        try:
            yield
        finally:
            has_ended.set()
            # What accepts waits for a connection.
            with socket.create_connection(("127.0.0.1", port)):
                thread.join()


class _Servicer(TraceServiceServicer):
    def __init__(self, code: grpc.StatusCode | None) -> None:
        self._code = code
        self.has_ended = threading.Event()

    def Export(  # noqa: N802 (gRPC's name)
        self, request: ExportTraceServiceRequest, context: grpc.ServicerContext
    ) -> NoReturn:
        if self._code is not None:
            context.abort(self._code, "not here")
        self.has_ended.wait()
        context.abort(grpc.StatusCode.ABORTED, "never answered")


@contextmanager
def _served(port: int, code: grpc.StatusCode | None) -> Iterator[None]:
    servicer = _Servicer(code)
    server = grpc.server(ThreadPoolExecutor(max_workers=32))
    add_TraceServiceServicer_to_server(servicer, server)
    server.add_insecure_port(f"127.0.0.1:{port}")
    server.start()
    try:
        yield
    finally:
        servicer.has_ended.set()
        server.stop(0).wait()


WRONG_COLLECTORS: Mapping[str, Callable[[int], AbstractContextManager[None]]] = {
    "nobody": _nobody,
    "deaf": _deaf,
    "silent": lambda port: _served(port, None),
    "refuses": lambda port: _served(port, grpc.StatusCode.PERMISSION_DENIED),
    "is busy": lambda port: _served(port, grpc.StatusCode.UNAVAILABLE),
}
"""By name; each listens on the port that it is given, until its context is left."""

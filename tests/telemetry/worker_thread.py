"""A worker in a thread of the test process, with an engine of the test's own."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

from headrace.common.v1 import errors_pb2
from headrace.rpc.errors import ServiceError
from worker.engine.paced import PacedEngine
from worker.engine.seam import EndedEvent, Engine, EngineEvents, EngineRequest, EventSink
from worker.main import serve
from worker.settings import WorkerSettings

_START_SECONDS = 60.0


class BreakingEngine(PacedEngine):
    """A paced engine that fails each output at its third token."""

    def submit(self, request: EngineRequest, sink: EventSink) -> None:
        super().submit(request, _BreakingSink(self, request, sink))


class _BreakingSink:
    def __init__(self, engine: PacedEngine, request: EngineRequest, sink: EventSink) -> None:
        self._engine, self._request, self._sink = engine, request, sink
        self._num_tokens = 0

    def on_events(self, events: EngineEvents) -> None:
        self._sink.on_events(events)
        self._num_tokens += sum(events.counts)
        if self._num_tokens == 3:
            error = ServiceError(errors_pb2.ERROR_REASON_ENGINE_FAILURE, "The engine broke.")
            keys = self._request.keys
            self._engine.abort(self, list(keys))
            ended = [EndedEvent(key, error=error) for key in keys]
            self._sink.on_events(EngineEvents(ended=ended))


class ThreadedWorker:
    """What a stack wants of a worker; ended by its context."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.name = "worker in a thread"

    def tell_to_end(self) -> None:
        """Its context does."""

    def end(self) -> None:
        """Its context does."""

    def destroy(self) -> None:
        """Its context does."""

    def require_clean_log(self) -> None:
        """It has none of its own."""


@contextmanager
def threaded_worker(settings: WorkerSettings, engine: Engine) -> Iterator[ThreadedWorker]:
    """Serve an engine until the context is left."""
    loop = asyncio.new_event_loop()
    stop = asyncio.Event()
    port: list[int] = []
    has_begun = threading.Event()

    def listening(number: int) -> None:
        port.append(number)
        has_begun.set()

    def run() -> None:
        try:
            loop.run_until_complete(serve(settings, engine, stop, listening))
        finally:
            has_begun.set()
            loop.close()

    thread = threading.Thread(target=run)
    thread.start()
    try:
        if not has_begun.wait(_START_SECONDS) or not port:
            _fail()
        yield ThreadedWorker(f"127.0.0.1:{port[0]}")
    finally:
        if not loop.is_closed():
            loop.call_soon_threadsafe(stop.set)
        thread.join(_START_SECONDS)


def _fail() -> NoReturn:
    raise AssertionError("the worker does not listen")

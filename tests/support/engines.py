"""An engine that does what the test tells it, through the real seam."""

import asyncio
import time
from collections.abc import Sequence

from headrace.common.v1.finish_pb2 import FINISH_REASON_LENGTH, FINISH_REASON_STOP
from headrace.rpc.errors import ServiceError
from tests.support.models import END_TOKEN, fake_model
from worker.engine.paced import PacedEngine
from worker.engine.paced_settings import PacedSettings
from worker.engine.seam import (
    EndedEvent,
    EngineEvents,
    EngineLoad,
    EngineRequest,
    EventSink,
    ModelInfo,
    StartedEvent,
)


class ScriptedEngine:
    """Holds every request until the test emits its events; remembers aborts."""

    def __init__(self) -> None:
        self._info = PacedEngine(fake_model(), PacedSettings()).info
        self.submitted: list[tuple[EngineRequest, EventSink]] = []
        self.aborted: list[int] = []
        self.refusal: ServiceError | None = None
        self.has_request = asyncio.Event()
        self._failure: asyncio.Future[ServiceError] = asyncio.get_running_loop().create_future()

    @property
    def info(self) -> ModelInfo:
        return self._info

    @property
    def load(self) -> EngineLoad:
        return EngineLoad()

    async def start(self) -> None:
        return

    async def failed(self) -> ServiceError:
        return await asyncio.shield(self._failure)

    async def stop(self) -> None:
        return

    def fail_for_good(self, error: ServiceError) -> None:
        """End every output that was submitted, refuse what comes, and say so."""
        self.refusal = error
        for request, sink in self.submitted:
            sink.on_events(EngineEvents(ended=[EndedEvent(k, error=error) for k in request.keys]))
        self._failure.set_result(error)

    def submit(self, request: EngineRequest, sink: EventSink) -> None:
        if self.refusal is not None:
            raise self.refusal
        self.submitted.append((request, sink))
        self.has_request.set()

    def abort(self, sink: EventSink, keys: Sequence[int]) -> None:
        self.aborted.extend(keys)

    def feed(self, key: int) -> None:
        """Note that an output is fed to the model."""
        self._request(key).progress.fed(time.monotonic())

    def start_output(self, key: int) -> None:
        """Say that an output was taken up."""
        progress = self._request(key).progress
        progress.fed(time.monotonic())
        progress.first_token(time.monotonic())
        self._sink(key).on_events(EngineEvents(started=[StartedEvent(key, 5, 2, 1, 3)]))

    def emit(self, key: int, *token_ids: int) -> None:
        """Emit tokens of one output in one iteration."""
        self._request(key).progress.num_output_tokens += len(token_ids)
        events = EngineEvents(keys=[key], counts=[len(token_ids)], token_ids=list(token_ids))
        self._sink(key).on_events(events)

    def finish(self, key: int, *, at_end_token: bool = False) -> None:
        """End one output."""
        ended = EndedEvent(
            key,
            finish_reason=FINISH_REASON_STOP if at_end_token else FINISH_REASON_LENGTH,
            stop_token_id=END_TOKEN if at_end_token else None,
        )
        self._request(key).progress.last_token_at = time.monotonic()
        self._sink(key).on_events(EngineEvents(ended=[ended]))

    def fail(self, key: int, error: ServiceError) -> None:
        """Fail one output."""
        self._sink(key).on_events(EngineEvents(ended=[EndedEvent(key, error=error)]))

    def _request(self, key: int) -> EngineRequest:
        return next(request for request, _ in self.submitted if key in request.keys)

    def _sink(self, key: int) -> EventSink:
        return next(sink for request, sink in self.submitted if key in request.keys)

"""Requests that wait for a place: higher priority first, and nobody for ever.

The library has no priorities, so what waits is kept here, and handed over when there is a place.
"""

import bisect
import itertools
from collections.abc import Iterator, Sequence

from headrace.common.v1 import errors_pb2
from headrace.rpc.errors import ServiceError
from worker.engine.seam import EngineRequest, EventSink
from worker.engine.tensorrt_llm.running_request import QueuedRequest


class RequestQueue:
    """An ordered queue; `places` outputs may be with the library, `most` may wait here."""

    def __init__(self, *, places: int, most: int, priority_step_seconds: float) -> None:
        self._places = places
        self._most = most
        self._priority_step_seconds = priority_step_seconds
        self._arrivals = itertools.count()
        self._waiting: list[QueuedRequest] = []
        self.num_handed = 0
        """Outputs that the library has."""

    @property
    def num_waiting(self) -> int:
        """Outputs that wait here."""
        return sum(queued.request.n for queued in self._waiting)

    def add(self, request: EngineRequest, sink: EventSink, now: float) -> QueuedRequest:
        """Let a request wait. Raises ServiceError when there is no room for all its outputs."""
        waiting = self.num_waiting
        free = max(self._places - self.num_handed, 0)
        if waiting + request.n - free > self._most:
            raise ServiceError(
                errors_pb2.ERROR_REASON_OVERLOADED,
                f"The queue is full: {max(waiting - free, 0)} outputs wait, max_queued_outputs is "
                f"{self._most}.",
                retry_after_seconds=1.0,
            )
        rank = (now - request.priority * self._priority_step_seconds, next(self._arrivals))
        queued = QueuedRequest(request, sink, now, rank)
        bisect.insort(self._waiting, queued, key=_rank)
        return queued

    def take(self) -> Iterator[QueuedRequest]:
        """Those that have a place now; each counts as handed over until `give_back`."""
        while self._waiting and self.num_handed < self._places:
            queued = self._waiting.pop(0)
            self.num_handed += queued.request.n
            yield queued

    def give_back(self, queued: QueuedRequest) -> None:
        """The library is done with it."""
        self.num_handed -= queued.request.n

    def remove(self, queued: QueuedRequest) -> None:
        """Nobody waits for it any more; ignored where it has been taken."""
        if queued in self._waiting:
            self._waiting.remove(queued)

    def clear(self) -> Sequence[QueuedRequest]:
        """Empty it; what waited."""
        waiting, self._waiting = self._waiting, []
        return waiting


def _rank(queued: QueuedRequest) -> tuple[float, int]:
    return queued.rank

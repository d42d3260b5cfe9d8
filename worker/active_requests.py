"""The worker's table of running requests: who runs, until when, and how each one ended.

An entry is made when a request is accepted and released exactly once, by its owner: the session of
the shared stream, or the Generate call. Releasing writes the request's canonical log line.
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import structlog

from headrace.access.limits import Lease
from headrace.rpc.errors import ServiceError
from headrace.worker.v1.generation_pb2 import GenerationRequest
from worker.engine.seam import EngineRequest, StartedEvent

_log = structlog.get_logger("worker.request")


@dataclass(slots=True)
class ActiveRequest:
    """One running request; `open_keys` are its outputs that have not ended."""

    request: EngineRequest
    submitted_at: float
    open_keys: set[int] = field(default_factory=set)
    lease: Lease | None = None
    started: StartedEvent | None = None
    output_tokens: int = 0
    outcomes: list[str] = field(default_factory=list)
    deadline: asyncio.TimerHandle | None = None
    counted_tokens: int = 0
    """Those of outputs that have not ended yet too; counted for limited callers only."""

    def refuse(self, error: ServiceError) -> None:
        """The engine did not take it: nothing of it was computed, and nothing is charged."""
        self.outcomes.append(error.label)
        if self.lease is not None:
            self.lease.close(0, time.monotonic())

    @property
    def used_tokens(self) -> int:
        """What the caller's limits are charged with."""
        return self.request.num_given_tokens + max(self.output_tokens, self.counted_tokens)


class RequestTable:
    """All running requests of the process, over all streams and calls."""

    def __init__(self) -> None:
        self._running: set[int] = set()
        self._idle = asyncio.Event()
        self._idle.set()
        self.aborted_outputs = 0
        self.stray_entries = 0

    @property
    def num_running(self) -> int:
        """Requests accepted and not ended."""
        return len(self._running)

    async def idle(self) -> None:
        """Return when nothing runs."""
        await self._idle.wait()

    def open(
        self,
        wire: GenerationRequest,
        request: EngineRequest,
        on_deadline: Callable[[], None],
        lease: Lease | None = None,
    ) -> ActiveRequest:
        """Enter a request; `on_deadline` is called when its remaining time has passed.

        The lease, its part in its caller's limits, is closed when it is released.
        """
        loop = asyncio.get_running_loop()
        active = ActiveRequest(
            request=request,
            submitted_at=loop.time(),
            open_keys=set(request.keys),
            lease=lease,
        )
        if wire.HasField("remaining_ms"):
            active.deadline = loop.call_later(wire.remaining_ms / 1000, on_deadline)
        self._running.add(id(active))
        self._idle.clear()
        return active

    def release(self, active: ActiveRequest) -> None:
        """Take a request out and log how it went; a second release is a bug and raises."""
        self._running.remove(id(active))
        if not self._running:
            self._idle.set()
        if active.deadline is not None:
            active.deadline.cancel()
        if active.lease is not None:
            active.lease.close(active.used_tokens, time.monotonic())
        started = active.started
        _log.info(
            "request_ended",
            request_id=active.request.request_id,
            trace_id=active.request.trace.trace_id,
            outcomes=active.outcomes,
            prompt_tokens=len(active.request.prompt_token_ids),
            cached_prompt_tokens=started.cached_prompt_tokens if started else 0,
            output_tokens=active.output_tokens,
            queue_ms=started.queue_ms if started else None,
            prefill_ms=started.prefill_ms if started else None,
            total_ms=round(
                (asyncio.get_running_loop().time() - active.submitted_at) * 1000,
            ),
        )

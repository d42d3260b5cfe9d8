"""The worker's table of running requests: who runs, until when, and how each one ended.

An entry is made when a request is accepted and released exactly once, by its owner: the session of
the shared stream, or the Generate call. Releasing ends the request's report.
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, get_args

from headrace.access.limits import Lease
from headrace.rpc.caller_deadline import is_past_callers_deadline
from headrace.rpc.errors import ServiceError
from headrace.rpc.frame_stream import FrameCounts
from headrace.worker.v1.generation_pb2 import GenerationRequest
from worker.engine.seam import EndedEvent, EngineRequest, StartedEvent
from worker.events import outcome_label
from worker.request_end import RequestEnd
from worker.request_report import RequestReport, RequestReports

AbortCause = Literal[
    "complete", "caller", "deadline", "slow_reader", "stream_ended", "shutdown", "failed"
]
"""A stop string, the caller's wish, time, a caller or client who takes nothing, a stream's end, the
worker's own, another output's failure.
"""
ABORT_CAUSES: tuple[AbortCause, ...] = get_args(AbortCause)


@dataclass(slots=True)
class ActiveRequest:
    """One running request; `open_keys` are its outputs that have not ended."""

    request: EngineRequest
    report: RequestReport
    open_keys: set[int] = field(default_factory=set)
    lease: Lease | None = None
    started: StartedEvent | None = None
    output_tokens: int = 0
    longest_output: int = 0
    outcomes: list[str] = field(default_factory=list)
    failure: ServiceError | None = None
    refusal: ServiceError | None = None
    abort_cause: AbortCause | None = None
    model: str = ""
    due_at: float | None = None
    deadline: asyncio.TimerHandle | None = None
    counted_tokens: int = 0
    """Those of outputs that have not ended yet too; counted for limited callers only."""

    def start(self, event: StartedEvent) -> None:
        """An output was taken up; what is told of the request is the first one's."""
        if self.started is None:
            self.started = event

    def end_output(self, event: EndedEvent) -> None:
        """An output ended."""
        self.open_keys.discard(event.key)
        self.output_tokens += event.num_output_tokens
        self.longest_output = max(self.longest_output, event.num_output_tokens)
        self.outcomes.append(outcome_label(event))
        self.failure = self.failure or event.error

    def refuse(self, error: ServiceError) -> None:
        """The engine did not take it: nothing of it was computed, and nothing is charged."""
        self.outcomes.append(error.label)
        self.refusal = error
        if self.lease is not None:
            self.lease.close(0, time.monotonic())

    @property
    def is_due(self) -> bool:
        """Whether its time has run out by the clock of its caller, which began before this one."""
        if self.due_at is None:
            return False
        allowed_seconds = self.due_at - self.report.submitted_at
        return is_past_callers_deadline(self.due_at - time.monotonic(), allowed_seconds)

    @property
    def generated_tokens(self) -> int:
        """Those of outputs that have ended, and what the engine noted of aborted ones."""
        return max(self.output_tokens, self.request.progress.num_output_tokens)

    @property
    def used_tokens(self) -> int:
        """What the caller's limits are charged with."""
        return self.request.num_given_tokens + max(self.output_tokens, self.counted_tokens)


class RequestTable:
    """All running requests of the process, over all streams and calls, and what they add up to.

    The counts only ever grow, so that any thread may read them.
    """

    def __init__(self, reports: RequestReports | None = None) -> None:
        self.reports = reports or RequestReports()
        self._running: set[int] = set()
        self._idle = asyncio.Event()
        self._idle.set()
        self.is_closing = False
        """The worker waits no longer: what still runs ends since it ends."""
        self.aborts = dict.fromkeys(ABORT_CAUSES, 0)
        self.stray_entries = 0
        self.frames = FrameCounts()
        self.frame_tokens = 0
        """Tokens in frames to edges."""
        self.output_tokens = 0
        """Tokens that engines gave for open outputs, over streams and calls."""

    @property
    def num_running(self) -> int:
        """Requests accepted and not ended."""
        return len(self._running)

    @property
    def aborted_outputs(self) -> int:
        """Outputs that were aborted, for whatever cause."""
        return sum(self.aborts.values())

    async def idle(self) -> None:
        """Return when nothing runs."""
        await self._idle.wait()

    def open(
        self,
        wire: GenerationRequest,
        request: EngineRequest,
        on_deadline: Callable[[], None],
        lease: Lease | None = None,
        report: RequestReport | None = None,
    ) -> ActiveRequest:
        """Enter a request; `on_deadline` is called when its remaining time has passed.

        The lease, its part in its caller's limits, is closed when it is released.
        """
        active = ActiveRequest(
            request=request,
            report=report or self.reports.begin(wire),
            open_keys=set(request.keys),
            lease=lease,
            model=wire.model,
        )
        if wire.HasField("remaining_ms"):
            seconds = wire.remaining_ms / 1000
            active.due_at = time.monotonic() + seconds
            active.deadline = asyncio.get_running_loop().call_later(seconds, on_deadline)
        self._running.add(id(active))
        self._idle.clear()
        return active

    def abort(self, active: ActiveRequest, num_outputs: int, cause: AbortCause) -> None:
        """Note that outputs are aborted, and why."""
        active.abort_cause = active.abort_cause or cause
        self.aborts[cause] += num_outputs

    def release(self, active: ActiveRequest) -> None:
        """Take a request out and report how it went; a second release is a bug and raises."""
        self._running.remove(id(active))
        if not self._running:
            self._idle.set()
        if active.deadline is not None:
            active.deadline.cancel()
        if active.lease is not None:
            active.lease.close(active.used_tokens, time.monotonic())
        if active.refusal is not None:
            active.report.refuse(active.refusal)
            return
        output_tokens = active.generated_tokens
        # Of an aborted output the engine tells no count of its own.
        longest = output_tokens if active.request.n == 1 else active.longest_output
        active.report.end(
            RequestEnd(
                request=active.request,
                model=active.model,
                started=active.started,
                outcomes=active.outcomes,
                output_tokens=output_tokens,
                longest_output=longest,
                failure=active.failure,
                abort_cause=active.abort_cause,
            )
        )

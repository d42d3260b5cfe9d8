"""One edge's shared stream on the worker: its requests, and the frames to and from it."""

from collections.abc import Iterable, Mapping, Sequence

from headrace.access.limits import Lease
from headrace.common.v1 import errors_pb2
from headrace.common.v1.finish_pb2 import FINISH_REASON_STOP
from headrace.rpc.errors import Reason, ServiceError, reason_label
from headrace.rpc.frame_stream import FrameCall, FrameStream, FrameViolationError
from headrace.rpc.limits import MAX_PENDING_TOKENS, FrameTiming
from headrace.runtime.identity import Identity
from headrace.telemetry.trace_context import TraceContext
from headrace.worker.v1.attach_pb2 import AttachRequest, AttachResponse, Submission
from worker.active_requests import AbortCause, ActiveRequest, RequestTable
from worker.attach_outbox import AttachOutbox
from worker.engine.seam import EndedEvent, Engine, EngineEvents, EngineRequest
from worker.events import (
    ended_to_proto,
    failed_terminal,
    logprobs_to_proto,
    only_open,
    started_to_proto,
)
from worker.lost_requests import log_lost
from worker.request_gate import KeyExpiredError, RequestGate

_LAST_HANDLE = 2**64 - 1
_ABORT_CAUSES: Mapping[Reason, AbortCause] = {
    errors_pb2.ERROR_REASON_UNSPECIFIED: "complete",
    errors_pb2.ERROR_REASON_CLIENT_CANCELLED: "caller",
    errors_pb2.ERROR_REASON_DEADLINE_EXCEEDED: "deadline",
    errors_pb2.ERROR_REASON_SLOW_READER: "slow_reader",
}
"""What an edge may say of an abort; anything else is its caller's wish."""


class AttachSession:
    """The engine's sink for one stream; engine keys are the stream's handles.

    An aborted output leaves the table and gets its terminal at once; what the engine still says of
    it is a stray. When the stream ends, everything on it is aborted.
    """

    def __init__(
        self,
        call: FrameCall[AttachRequest, AttachResponse],
        engine: Engine,
        table: RequestTable,
        identity: Identity,
        timing: FrameTiming,
        requests: RequestGate,
    ) -> None:
        self._engine = engine
        self._table = table
        self._requests = requests
        self._outbox = AttachOutbox()
        self._open: dict[int, ActiveRequest] = {}
        self._highest_handle = 0
        self._draining = self._is_expired = False
        self._stream: FrameStream[AttachRequest, AttachResponse] = FrameStream(
            call, self._outbox, self._on_frame, identity, peer="edge", timing=timing
        )
        self._stream.counts = table.frames

    async def run(self) -> None:
        """Serve until the stream ends; then nothing of it is left."""
        try:
            await self._stream.run()
        finally:
            if self._table.is_closing:
                self._abort(list(self._open), errors_pb2.ERROR_REASON_DRAINING, "shutdown")
            else:
                self._lose()

    def _lose(self) -> None:
        """The edge is gone, and with it whoever had asked."""
        aboard = list({id(request): request for request in self._open.values()}.values())
        self._abort(list(self._open), errors_pb2.ERROR_REASON_EDGE_LOST, "stream_ended")
        log_lost([request for request in aboard if request.abort_cause == "stream_ended"])

    def drain(self) -> None:
        """Take nothing new, and say so."""
        self._draining = True
        self._stream.drain()

    def finish(self) -> None:
        """End the stream once everything said on it is out."""
        self._stream.finish()

    def _on_frame(self, frame: AttachRequest) -> None:
        for submission in frame.submissions:
            self._submit(submission)
        if frame.aborted_handles:
            num_ended = sum(
                self._abort(handles, reason, _ABORT_CAUSES[reason])
                for reason, handles in _aborts_of(frame).items()
            )
            self._table.stray_entries += len(frame.aborted_handles) - num_ended
        if not self._outbox.is_empty:
            self._stream.wake()

    def _submit(self, submission: Submission) -> None:
        first = submission.first_handle
        if first <= self._highest_handle:
            raise FrameViolationError(
                f"edge opened handle {first} after handle {self._highest_handle}"
            )
        self._highest_handle = first + max(1, submission.request.n) - 1
        if self._highest_handle > _LAST_HANDLE:
            raise FrameViolationError(f"edge opened handle {self._highest_handle}, beyond 64 bits")
        try:
            self._open_request(submission)
        except ServiceError as error:
            # An n out of bounds is answered for as many outputs as a request may have.
            outputs = min(max(1, submission.request.n), self._engine.info.max_outputs)
            for handle in range(first, first + outputs):
                self._open.pop(handle, None)
                self._outbox.end(failed_terminal(handle, error))

    def _open_request(self, submission: Submission) -> None:
        wire = submission.request
        report = self._table.reports.begin(wire, self._requests.caller)
        try:
            request, lease = self._accept(submission, report.trace)
        except ServiceError as error:
            report.refuse(error)
            raise
        # Entered before the engine has it: an engine may report from within submit.
        self._outbox.accept(request.keys)
        active = self._table.open(
            wire, request, lambda: self._deadline(request.keys), lease, report
        )
        self._open.update(dict.fromkeys(request.keys, active))
        try:
            self._engine.submit(request, self)
        except ServiceError as error:
            active.refuse(error)
            self._table.release(active)
            raise

    def _accept(self, submission: Submission, trace: TraceContext) -> tuple[EngineRequest, Lease]:
        """What the stream's key allows. Raises ServiceError."""
        if self._draining:
            raise ServiceError(errors_pb2.ERROR_REASON_DRAINING, "the worker is shutting down")
        wire, info = submission.request, self._engine.info
        try:
            return self._requests.accept(wire, submission.first_handle, info, trace)
        except KeyExpiredError as error:
            self._expire()
            message = "the key with which this stream was opened is not known any more"
            raise ServiceError(errors_pb2.ERROR_REASON_DRAINING, message) from error

    def _expire(self) -> None:
        """The stream's key was removed: what runs may end, and the peer comes back with another."""
        self._is_expired = True
        self.drain()
        if not self._open:
            self.finish()

    def _deadline(self, keys: Iterable[int]) -> None:
        self._abort(keys, errors_pb2.ERROR_REASON_DEADLINE_EXCEEDED, "deadline")
        self._stream.wake()

    def _abort(self, handles: Iterable[int], reason: Reason, cause: AbortCause) -> int:
        """End outputs at once and tell the engine; returns how many were open.

        Where no reason is specified nothing failed: the answer is complete.
        """
        # A peer may name a handle twice; only the first time is it known.
        known = [handle for handle in dict.fromkeys(handles) if handle in self._open]
        if known:
            self._engine.abort(self, known)
        error, finish_reason = None, None
        if reason == errors_pb2.ERROR_REASON_UNSPECIFIED:
            finish_reason = FINISH_REASON_STOP
        else:
            error = ServiceError(reason, f"the request was ended: {reason_label(reason)}")
        for handle in known:
            self._table.abort(self._open[handle], 1, cause)
            self._end(EndedEvent(handle, finish_reason, error))
        return len(known)

    def on_events(self, events: EngineEvents) -> None:
        """Take one iteration of the engine into the frame under construction."""
        if not self._all_open(events):
            events, strays = only_open(events, self._open)
            self._table.stray_entries += strays
        for started in events.started:
            self._open[started.key].start(started)
            self._outbox.start(started_to_proto(started, started.key))
        if self._requests.counts_tokens:
            for key, count in zip(events.keys, events.counts, strict=True):
                self._open[key].counted_tokens += count
        self._table.output_tokens += len(events.token_ids)
        if self._outbox.pending_tokens > MAX_PENDING_TOKENS:
            self._refuse_slow(events)
        elif events.keys:
            logprobs = [logprobs_to_proto(key, entry) for key, entry in events.logprobs.items()]
            self._outbox.tokens(events.keys, events.counts, events.token_ids, logprobs)
            self._table.frame_tokens += len(events.token_ids)
        for ended in events.ended:
            if ended.key in self._open:
                self._end(ended)
        self._stream.wake()

    def _all_open(self, events: EngineEvents) -> bool:
        is_open = self._open.keys()
        named = {event.key for event in events.started}
        named.update(event.key for event in events.ended)
        named.update(events.keys)
        return is_open >= named

    def _refuse_slow(self, events: EngineEvents) -> None:
        # The edge takes no frames: single requests end, the stream lives.
        self._abort(events.keys, errors_pb2.ERROR_REASON_OVERLOADED, "slow_reader")

    def _end(self, event: EndedEvent) -> None:
        active = self._open.pop(event.key)
        self._outbox.end(ended_to_proto(event, event.key))
        active.end_output(event)
        if not active.open_keys:
            self._table.release(active)
        if self._is_expired and not self._open:
            self.finish()


def _aborts_of(frame: AttachRequest) -> Mapping[Reason, Sequence[int]]:
    """What a frame aborts, by reason. Raises FrameViolationError."""
    handles, reasons = frame.aborted_handles, frame.abort_reasons
    if not reasons:
        return {errors_pb2.ERROR_REASON_CLIENT_CANCELLED: handles}
    if len(reasons) != len(handles):
        raise FrameViolationError(
            f"edge gave {len(reasons)} reasons for {len(handles)} aborted handles"
        )
    found: dict[Reason, list[int]] = {}
    for handle, reason in zip(handles, reasons, strict=True):
        known = reason if reason in _ABORT_CAUSES else errors_pb2.ERROR_REASON_CLIENT_CANCELLED
        found.setdefault(known, []).append(handle)
    return found

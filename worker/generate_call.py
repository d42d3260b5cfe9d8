"""One Generate call: the simple form of a request, with the meaning that it has in Attach."""

import asyncio
from collections.abc import Awaitable, Callable

from headrace.common.v1 import errors_pb2
from headrace.rpc.errors import ServiceError
from headrace.rpc.limits import MAX_PENDING_TOKENS
from headrace.worker.v1.generate_pb2 import GenerateResponse, OutputTokens
from headrace.worker.v1.generation_pb2 import GenerationRequest
from worker.active_requests import AbortCause, ActiveRequest, RequestTable
from worker.engine.seam import EndedEvent, Engine, EngineEvents
from worker.events import (
    ended_to_proto,
    logprobs_to_proto,
    only_open,
    started_to_proto,
)
from worker.request_gate import RequestGate


class GenerateCall:
    """The engine's sink for one call; engine keys are output indexes.

    Events wait until the caller's stream takes them, as many as on a shared stream: a caller who
    takes none is refused the rest.
    """

    def __init__(self, engine: Engine, table: RequestTable, requests: RequestGate) -> None:
        self._engine = engine
        self._table = table
        self._requests = requests
        self._open: dict[int, ActiveRequest] = {}
        self._events: list[EngineEvents] = []
        self._num_waiting = 0
        self._weight = 1
        """What a token counts among those that wait: with its alternatives."""
        self._failure: ServiceError | None = None
        self._wake = asyncio.Event()

    async def run(
        self, wire: GenerationRequest, write: Callable[[GenerateResponse], Awaitable[None]]
    ) -> None:
        """Submit, and write events until all outputs ended; a failure is raised.

        Leaving early, for whatever reason, aborts what still runs.
        """
        active = self._accept(wire)
        self._open = dict.fromkeys(active.request.keys, active)
        self._weight = 1 + (active.request.logprobs or 0)
        try:
            self._submit(active)
            while self._open or self._events:
                await self._wake.wait()
                self._wake.clear()
                batches, self._events, self._num_waiting = self._events, [], 0
                for events in batches:
                    for response in self._responses(events):
                        await write(response)
                if self._failure is not None:
                    raise self._failure
        finally:
            self._leave(active)

    def _accept(self, wire: GenerationRequest) -> ActiveRequest:
        report = self._table.reports.begin(wire, self._requests.caller)
        try:
            request, lease = self._requests.accept(wire, 0, self._engine.info, report.trace)
        except ServiceError as error:
            report.refuse(error)
            raise
        return self._table.open(wire, request, self._deadline, lease, report)

    def _submit(self, active: ActiveRequest) -> None:
        try:
            self._engine.submit(active.request, self)
        except ServiceError as error:
            active.refuse(error)
            self._open = {}
            raise

    def _leave(self, active: ActiveRequest) -> None:
        if self._failure is not None:
            # One of several outputs failed: the others are of no use.
            self._abort(self._failure, "failed")
        elif self._table.is_closing:
            ending = ServiceError(errors_pb2.ERROR_REASON_DRAINING, "the worker has ended")
            self._abort(ending, "shutdown")
        elif active.is_due:
            self._abort(_time_ran_out(), "deadline")
        else:
            left = ServiceError(errors_pb2.ERROR_REASON_CLIENT_CANCELLED, "the caller has left")
            self._abort(left, "caller")
        self._table.release(active)

    def _abort(self, error: ServiceError, cause: AbortCause) -> None:
        opened, self._open = self._open, {}
        if not opened:
            return
        self._engine.abort(self, list(opened))
        self._table.abort(next(iter(opened.values())), len(opened), cause)
        for key, active in opened.items():
            active.end_output(EndedEvent(key, error=error))

    def _deadline(self) -> None:
        self._fail(_time_ran_out(), "deadline")

    def _fail(self, error: ServiceError, cause: AbortCause) -> None:
        # The engine is told at once: the caller may be slow to take what was written before.
        self._failure = error
        self._abort(error, cause)
        self._wake.set()

    def on_events(self, events: EngineEvents) -> None:
        """Take one iteration of the engine."""
        events, strays = only_open(events, self._open)
        self._table.stray_entries += strays
        if self._requests.counts_tokens:
            for key, count in zip(events.keys, events.counts, strict=True):
                self._open[key].counted_tokens += count
        for started in events.started:
            self._open[started.key].start(started)
        self._table.output_tokens += len(events.token_ids)
        for ended in events.ended:
            self._close(ended)
        self._events.append(events)
        self._wake.set()
        self._num_waiting += sum(events.counts) * self._weight
        if self._num_waiting > MAX_PENDING_TOKENS and self._failure is None:
            self._events.clear()
            message = "the caller does not take what is generated"
            error = ServiceError(errors_pb2.ERROR_REASON_OVERLOADED, message)
            self._fail(error, "slow_reader")

    def _close(self, ended: EndedEvent) -> None:
        self._open.pop(ended.key).end_output(ended)
        self._failure = self._failure or ended.error

    def _responses(self, events: EngineEvents) -> list[GenerateResponse]:
        responses = [
            GenerateResponse(started=started_to_proto(event, event.key)) for event in events.started
        ]
        position = 0
        for key, count in zip(events.keys, events.counts, strict=True):
            tokens = OutputTokens(
                handle=key, token_ids=events.token_ids[position : position + count]
            )
            if key in events.logprobs:
                tokens.logprobs.CopyFrom(logprobs_to_proto(key, events.logprobs[key]))
            responses.append(GenerateResponse(tokens=tokens))
            position += count
        responses += [
            GenerateResponse(terminal=ended_to_proto(event, event.key))
            for event in events.ended
            if event.error is None
        ]
        return responses


def _time_ran_out() -> ServiceError:
    return ServiceError(errors_pb2.ERROR_REASON_DEADLINE_EXCEEDED, "the request's time ran out")

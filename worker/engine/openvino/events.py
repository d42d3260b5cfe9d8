"""Gathers what one iteration did, per sink, in the form that the seam hands out."""

from headrace.common.v1 import finish_pb2
from headrace.rpc.errors import ServiceError
from worker.engine.openvino.sequence import Sequence
from worker.engine.seam import (
    EndedEvent,
    EngineEvents,
    EventSink,
    StartedEvent,
    TokenLogprob,
)

SinkEvents = list[tuple[EventSink, EngineEvents]]


class IterationEvents:
    """Events of one iteration; a sink that had none does not occur."""

    def __init__(self) -> None:
        self._events: dict[int, tuple[EventSink, EngineEvents]] = {}

    def add_token(
        self,
        sequence: Sequence,
        token_id: int,
        logprob: TokenLogprob | None,
        now_seconds: float,
    ) -> None:
        """A token was drawn; the output's first one also reports its start."""
        events = self._of(sequence)
        progress = sequence.request.progress
        progress.num_output_tokens += 1
        if sequence.first_token_seconds is None:
            sequence.first_token_seconds = now_seconds
            progress.first_token(now_seconds)
            events.started.append(_started(sequence, now_seconds))
        events.keys.append(sequence.key)
        events.counts.append(1)
        events.token_ids.append(token_id)
        if logprob is not None:
            events.logprobs[sequence.key] = [logprob]

    def add_end(
        self,
        sequence: Sequence,
        now_seconds: float,
        *,
        error: ServiceError | None = None,
        stop_token_id: int | None = None,
    ) -> None:
        """The output ended; nothing may be added for it afterwards.

        Without an error or a stop token it ended because of its length.
        """
        began = sequence.first_token_seconds
        request = sequence.request
        stop, length = finish_pb2.FINISH_REASON_STOP, finish_pb2.FINISH_REASON_LENGTH
        reason = length if stop_token_id is None else stop
        if error is None:
            request.progress.last_token_at = now_seconds
        event = EndedEvent(
            key=sequence.key,
            finish_reason=reason if error is None else None,
            error=error,
            stop_token_id=stop_token_id,
            decode_ms=0 if began is None else round((now_seconds - began) * 1000),
            num_output_tokens=sequence.num_output_tokens - len(request.output_prefix_token_ids),
        )
        self._of(sequence).ended.append(event)

    def take(self) -> SinkEvents:
        """All events, each sink's in one object; none are left."""
        events = list(self._events.values())
        self._events.clear()
        return events

    def _of(self, sequence: Sequence) -> EngineEvents:
        entry = self._events.get(id(sequence.sink))
        if entry is None:
            entry = self._events[id(sequence.sink)] = (sequence.sink, EngineEvents())
        return entry[1]


def _started(sequence: Sequence, now_seconds: float) -> StartedEvent:
    first_fed = sequence.first_fed_seconds
    if first_fed is None:
        raise RuntimeError(f"output {sequence.key} has a token but was never fed")
    return StartedEvent(
        key=sequence.key,
        prompt_tokens=len(sequence.request.prompt_token_ids),
        cached_prompt_tokens=sequence.cached_prompt_tokens or 0,
        queue_ms=round((first_fed - sequence.submitted_seconds) * 1000),
        prefill_ms=round((now_seconds - first_fed) * 1000),
    )

"""From the engine's events to the wire's messages: pure, the same for Attach and Generate."""

from collections.abc import Mapping, Sequence

from headrace.common.v1.finish_pb2 import FinishReason
from headrace.rpc.errors import ServiceError, failure_from_error
from headrace.worker.v1.generation_pb2 import OutputLogprobs, Started, Terminal
from worker.engine.seam import EndedEvent, EngineEvents, StartedEvent, TokenLogprob


def started_to_proto(event: StartedEvent, handle: int) -> Started:
    """An output's start."""
    return Started(
        handle=handle,
        prompt_tokens=event.prompt_tokens,
        cached_prompt_tokens=event.cached_prompt_tokens,
        queue_ms=event.queue_ms,
        prefill_ms=event.prefill_ms,
    )


def ended_to_proto(event: EndedEvent, handle: int) -> Terminal:
    """An output's end, as it appears in a shared stream."""
    if event.error is not None:
        return failed_terminal(handle, event.error)
    return Terminal(
        handle=handle,
        finish_reason=event.finish_reason or FinishReason.FINISH_REASON_UNSPECIFIED,
        stop_token_id=event.stop_token_id,
        decode_ms=event.decode_ms,
    )


def failed_terminal(handle: int, error: ServiceError) -> Terminal:
    """A failed output's end."""
    return Terminal(handle=handle, failure=failure_from_error(error))


def outcome_label(event: EndedEvent) -> str:
    """How an output ended, for logs: `stop`, `length`, or the error's label."""
    if event.error is not None:
        return event.error.label
    reason = event.finish_reason or FinishReason.FINISH_REASON_UNSPECIFIED
    return FinishReason.Name(reason).removeprefix("FINISH_REASON_").lower()


def logprobs_to_proto(handle: int, entries: Sequence[TokenLogprob]) -> OutputLogprobs:
    """Log probabilities of one output's new tokens, as flat arrays."""
    return OutputLogprobs(
        handle=handle,
        logprobs=[entry.logprob for entry in entries],
        top_counts=[len(entry.top) for entry in entries],
        top_token_ids=[token_id for entry in entries for token_id, _ in entry.top],
        top_logprobs=[logprob for entry in entries for _, logprob in entry.top],
    )


def only_open(events: EngineEvents, is_open: Mapping[int, object]) -> tuple[EngineEvents, int]:
    """The part of `events` whose keys are still open, and how many entries were strays."""
    kept = EngineEvents(
        started=[event for event in events.started if event.key in is_open],
        ended=[event for event in events.ended if event.key in is_open],
        logprobs={key: value for key, value in events.logprobs.items() if key in is_open},
    )
    position = 0
    for key, count in zip(events.keys, events.counts, strict=True):
        if key in is_open:
            kept.keys.append(key)
            kept.counts.append(count)
            kept.token_ids.extend(events.token_ids[position : position + count])
        position += count
    before = len(events.started) + len(events.keys) + len(events.ended)
    after = len(kept.started) + len(kept.keys) + len(kept.ended)
    return kept, before - after

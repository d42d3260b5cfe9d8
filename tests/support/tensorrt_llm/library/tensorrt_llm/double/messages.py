"""Responses of a request: one for each sequence that has something to say, the last marked so.

With streaming a sequence speaks every `stream_interval` iterations, at its first and at its end;
without, only at its end.
"""

import random
import time

from tensorrt_llm.double.sequences import (
    Message,
    Metrics,
    RawFinish,
    Response,
    RunningRequest,
    RunningSequence,
    TokenLogprobs,
)
from tensorrt_llm.double.switches import Switches


class MessageMaker:
    """Makes responses; stateless but for what it marks as sent in the sequences."""

    def __init__(self, switches: Switches, stream_interval: int) -> None:
        self._switches = switches
        self._stream_interval = stream_interval

    def now(self) -> float:
        """Seconds on the clock of all metrics."""
        return time.monotonic()

    def due(
        self, request: RunningRequest, iteration: int, prompt: tuple[TokenLogprobs, ...]
    ) -> list[Message]:
        """What is to be told after a step or an end."""
        telling = [s for s in request.sequences if not s.is_told and self._speaks(request, s)]
        messages: list[Message] = []
        for sequence in telling:
            is_end = sequence.finish is not None
            splits = is_end and request.request.streaming and self._switches.ends_with_empty_step
            if splits and sequence.sent < len(sequence.token_ids):
                messages.append(self._response(request, sequence, None, prompt))
            sequence.is_told = is_end
            response = self._response(request, sequence, sequence.finish, prompt)
            messages.append(response)
        if messages and all(s.is_told for s in request.sequences):
            messages[-1] = self._last(request, messages[-1], iteration)
        return messages

    def _speaks(self, request: RunningRequest, sequence: RunningSequence) -> bool:
        if sequence.finish is not None:
            return True
        if not request.request.streaming:
            return False
        return request.iterations == 1 or request.iterations % self._stream_interval == 0

    def _response(
        self,
        request: RunningRequest,
        sequence: RunningSequence,
        finish: RawFinish | None,
        prompt: tuple[TokenLogprobs, ...],
    ) -> Response:
        new = sequence.token_ids[sequence.sent :]
        logprobs = sequence.logprobs[sequence.sent :]
        sequence.sent = len(sequence.token_ids)
        if finish == "end_id" and not self._switches.keeps_end_id:
            new, logprobs = new[:-1], logprobs[: len(new) - 1]
        request.num_responses += 1
        rate = len(sequence.token_ids) / max(request.iterations, 1)
        return Response(
            request_id=request.request.request_id,
            sequence_index=sequence.index,
            token_ids=tuple(new),
            finish=self._named(finish),
            is_last=False,
            cached_tokens=request.cached_tokens or 0,
            decoding_iterations=request.iterations,
            tokens_per_iteration=rate,
            logprobs=tuple(logprobs),
            prompt_logprobs=prompt,
            cumulative_logprob=sequence.cumulative_logprob,
        )

    def _named(self, finish: RawFinish | None) -> RawFinish | None:
        forced = self._switches.forced_finish_reason
        if finish is None or forced is None or finish == "cancelled":
            return finish
        return "end_id" if forced == "stop" else forced

    def _last(self, request: RunningRequest, message: Message, iteration: int) -> Message:
        if not isinstance(message, Response):
            return message
        metrics = None
        if request.request.wants_metrics and self._switches.gives_perf_metrics:
            metrics = Metrics(
                timing=request.timing,
                allocated_blocks=request.allocated,
                reused_blocks=request.reused,
                first_iteration=request.first_iteration,
                last_iteration=iteration,
                draft_tokens=request.drafted,
                accepted_draft_tokens=request.accepted,
            )
        return as_last(message, metrics)


def as_last(response: Response, metrics: Metrics | None) -> Response:
    """The same, as the request's last."""
    values = {name: getattr(response, name) for name in Response.__dataclass_fields__}
    return Response(**{**values, "is_last": True, "metrics": metrics})


def interleaved(messages: list[Message], chance: random.Random) -> list[Message]:
    """Sequences in any order; each keeps its own, and a request's last response stays last."""
    groups: dict[tuple[int | None, int], list[Message]] = {}
    for message in messages:
        index = message.sequence_index if isinstance(message, Response) else 0
        groups.setdefault((message.request_id, index), []).append(message)
    shuffled = list(groups.values())
    chance.shuffle(shuffled)
    shuffled.sort(key=lambda group: isinstance(group[-1], Response) and group[-1].is_last)
    return [message for group in shuffled for message in group]

"""One output's place in its result: from cumulative lists, which also shrink, to deltas.

Invariants: ids are given out once; the id that ended the output is the last one, put back where the
library trimmed it; there are as many log probabilities as ids. The result's own `token_ids_diff` is
never read: with several outputs it repeats what was told before.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import structlog

from headrace.common.v1 import errors_pb2
from headrace.common.v1.finish_pb2 import FINISH_REASON_LENGTH, FINISH_REASON_STOP, FinishReason
from headrace.rpc.errors import ServiceError
from worker.engine.seam import EngineRequest, TokenLogprob
from worker.engine.tensorrt_llm.library import CompletionOutput
from worker.engine.tensorrt_llm.sampling_arguments import EndTokens

LEAST_LOGPROB = -9999.0
"""Stands for minus infinity, and for a value that was not told."""

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class CursorEnd:
    """How the output ended: a reason or an error. `is_early`: the library has not ended it."""

    finish_reason: "FinishReason.ValueType | None" = None
    error: ServiceError | None = None
    stop_token_id: int | None = None
    is_early: bool = False


@dataclass(slots=True)
class Delta:
    """What is new since the last step. One a token, and so not frozen: that takes twice as long."""

    token_ids: Sequence[int]
    logprobs: Sequence[TokenLogprob]
    end: CursorEnd | None


class OutputCursor:
    """Reads one output of a result, step by step."""

    def __init__(self, request: EngineRequest, ends: EndTokens) -> None:
        self._ends = ends
        self._stops = ends.stops(request)
        self._ignores_end = request.ignore_eos
        self._num_alternatives = request.logprobs
        done = len(request.output_prefix_token_ids)
        self._min_tokens = max(request.min_tokens - done, 0)
        self._max_tokens = request.max_tokens - done
        self.num_sent = 0
        """Ids given out."""

    def step(self, output: CompletionOutput, *, is_finished: bool) -> Delta:
        """What the output has now beyond what was given out; not to be called after an end."""
        begin = self.num_sent
        # Trimmed ends make the list shorter than what was given out: then nothing is new.
        token_ids = output.token_ids[begin : self._max_tokens]
        end = self._early_end(token_ids)
        if end is None and (output.finish_reason is not None or is_finished):
            end = self._end(output, token_ids)
        self.num_sent += len(token_ids)
        return Delta(token_ids, self._logprobs(output, begin, token_ids), end)

    def _early_end(self, token_ids: list[int]) -> CursorEnd | None:
        """An end token that is there before the library says so, or that it was to ignore.

        What follows it is cut off. One library ends outputs all together, and another forgets
        stops where the model's own end is ignored.
        """
        if self._stops.isdisjoint(token_ids):
            return None
        for position, token_id in enumerate(token_ids):
            if token_id in self._stops and self.num_sent + position >= self._min_tokens:
                del token_ids[position + 1 :]
                return CursorEnd(FINISH_REASON_STOP, stop_token_id=token_id, is_early=True)
        return None

    def _end(self, output: CompletionOutput, token_ids: list[int]) -> CursorEnd:
        reason = output.finish_reason
        if reason is None:
            # Seen in production: finished, and not said why.
            _log.warning("finished_without_reason", tokens=self.num_sent + len(token_ids))
            is_full = self.num_sent + len(token_ids) >= self._max_tokens
            return CursorEnd(FINISH_REASON_LENGTH if is_full else FINISH_REASON_STOP)
        if reason == "length":
            return CursorEnd(FINISH_REASON_LENGTH)
        if reason == "stop":
            return self._stop(output, token_ids)
        return CursorEnd(error=_ended_by_engine(reason))

    def _stop(self, output: CompletionOutput, token_ids: list[int]) -> CursorEnd:
        """The end token was trimmed, or else `_early_end` would have seen it: it is put back.

        Only before `min_tokens` it may be there still.
        """
        named = output.stop_reason
        if named is None and not self._ignores_end:
            named = self._ends.main
        if not isinstance(named, int):
            return CursorEnd(FINISH_REASON_STOP)
        if token_ids[-1:] != [named]:
            token_ids.append(named)
        return CursorEnd(FINISH_REASON_STOP, stop_token_id=named)

    def _logprobs(
        self, output: CompletionOutput, begin: int, token_ids: Sequence[int]
    ) -> list[TokenLogprob]:
        """One entry an id; the library's list is not trimmed with the ids, and may be short."""
        if self._num_alternatives is None:
            return []
        told = list((output.logprobs or ())[begin : begin + len(token_ids)])
        told += [None] * (len(token_ids) - len(told))
        return [
            _token_logprob(token_id, entry, self._num_alternatives)
            for token_id, entry in zip(token_ids, told, strict=True)
        ]


def _token_logprob(token_id: int, entry: object, num_alternatives: int) -> TokenLogprob:
    """From a mapping of ids to objects with `logprob`, from a bare number, or from nothing."""
    if isinstance(entry, float | int):
        own = _clamped(entry)
        return TokenLogprob(own, ((token_id, own),) if num_alternatives else ())
    if not isinstance(entry, Mapping):
        return TokenLogprob(LEAST_LOGPROB)
    values = {key: _clamped(entry[key].logprob) for key in entry}
    # Equals keep the library's order.
    ranked = sorted(values.items(), key=lambda item: -item[1])
    own = values.get(token_id, LEAST_LOGPROB)
    return TokenLogprob(own, tuple(ranked[:num_alternatives]))


def _clamped(value: float) -> float:
    """Finite and not positive; NaN is the least too."""
    if math.isnan(value) or value < LEAST_LOGPROB:
        return LEAST_LOGPROB
    return min(float(value), 0.0)


def _ended_by_engine(reason: str) -> ServiceError:
    if reason == "timeout":
        return ServiceError(
            errors_pb2.ERROR_REASON_DEADLINE_EXCEEDED, "The engine's time for this request ran out."
        )
    return ServiceError(
        errors_pb2.ERROR_REASON_ENGINE_FAILURE, f"The engine ended this output as `{reason}`."
    )

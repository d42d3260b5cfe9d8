"""One sequence's next ids: model, guide, bias, penalties, a draw, and whether it ends there."""

import math

from tensorrt_llm.double.guides import Guides
from tensorrt_llm.double.model import FLOOR, Context, FakeModel, Logits
from tensorrt_llm.double.sampler import biased, draw, penalised, without
from tensorrt_llm.double.sequences import (
    RawFinish,
    RunningRequest,
    RunningSequence,
    TokenLogprobs,
    WorkerRequest,
)
from tensorrt_llm.double.switches import Switches

_MOST_LOGPROBS = 32


class Stepper:
    """Extends sequences by single ids; `guides` is None where no backend was configured."""

    def __init__(self, model: FakeModel, switches: Switches) -> None:
        self._model = model
        self._switches = switches

    def step(
        self, request: RunningRequest, sequence: RunningSequence, guides: Guides | None
    ) -> None:
        """Draw one id, append it, and set `finish` where the sequence ends. Raises GuideError."""
        plain = self._plain(sequence, guides)
        shaped = biased(plain, self._allowed_bias(request.request, plain, sequence))
        shaped = penalised(
            shaped, request.request.drawing, request.prompt_counts, sequence.token_ids
        )
        token_id = draw(
            without(shaped, self._banned(request, sequence, shaped)),
            request.request.drawing,
            sequence.chance,
        )
        self._append(request, sequence, token_id, biased_or_plain(self._switches, plain, shaped))
        sequence.finish = self._finish(request, sequence)

    def prompt_logprobs(self, request: WorkerRequest) -> tuple[TokenLogprobs, ...]:
        """One entry for each prompt id but the first."""
        sequence_context = Context(self._switches.seed, adapter=request.adapter)
        entries = []
        for token_id, following in zip(request.prompt, request.prompt[1:], strict=False):
            sequence_context.append(token_id)
            logits = self._model.logits(sequence_context)
            named = following if self._switches.prompt_logprobs_name_prompt else None
            entries.append(_top(logits, request.prompt_logprobs, named))
        return tuple(entries)

    def _plain(self, sequence: RunningSequence, guides: Guides | None) -> Logits:
        if sequence.matcher is None or guides is None:
            return self._model.logits(sequence.context)
        allowed = sequence.matcher.allowed()
        return self._model.logits_within(sequence.context, allowed, guides.closing)

    def _allowed_bias(
        self, request: WorkerRequest, plain: Logits, sequence: RunningSequence
    ) -> dict[int, float]:
        """With a guide only what it allows can rise: the mask comes last."""
        bias = dict(request.drawing.bias)
        if sequence.matcher is None:
            return bias
        return {token_id: value for token_id, value in bias.items() if token_id in plain.values}

    def _banned(
        self, request: RunningRequest, sequence: RunningSequence, logits: Logits
    ) -> frozenset[int]:
        asked = request.request
        banned: set[int] = set()
        if len(sequence.token_ids) < asked.min_tokens:
            banned.add(asked.end_id)
            if self._switches.min_tokens_holds_stop_words:
                banned.update(ids[0] for ids in asked.stop_sequences if len(ids) == 1)
        if self._switches.honours_bad_words:
            for ids in asked.bad_sequences:
                if len(ids) == 1 or sequence.ends_with([ids[:-1]]):
                    banned.add(ids[-1])
        if sequence.matcher is not None and not logits.values.keys() - banned:
            return frozenset()
        return frozenset(banned)

    def _append(
        self, request: RunningRequest, sequence: RunningSequence, token_id: int, told: Logits
    ) -> None:
        asked = request.request
        value = told.values.get(token_id, FLOOR) - told.log_normaliser()
        sequence.cumulative_logprob += value
        if asked.logprobs is not None:
            sequence.logprobs.append(self._logprobs(asked, sequence, token_id, told))
        sequence.token_ids.append(token_id)
        sequence.context.append(token_id)
        if sequence.matcher is not None:
            sequence.matcher.consume([token_id])

    def _logprobs(
        self, asked: WorkerRequest, sequence: RunningSequence, token_id: int, told: Logits
    ) -> TokenLogprobs:
        position = len(sequence.token_ids) + 1
        entry = _top(told, asked.logprobs or 0, token_id)
        every = self._switches.minus_inf_every
        if every and position % every == 0:
            entry[token_id] = (-math.inf, entry[token_id][1])
        missing = self._switches.sampled_id_missing_every
        if missing and position % missing == 0:
            del entry[token_id]
        return entry

    def _finish(self, request: RunningRequest, sequence: RunningSequence) -> RawFinish | None:
        asked = request.request
        if sequence.token_ids[-1] == asked.end_id:
            return "end_id"
        drops = self._switches.ignore_eos_drops_stop_words and asked.end_id == -1
        held = self._switches.min_tokens_holds_stop_words
        is_early = held and len(sequence.token_ids) <= asked.min_tokens
        if not (drops or is_early) and sequence.ends_with(asked.stop_sequences):
            return "stop_words"
        if len(sequence.token_ids) >= request.max_tokens:
            return "length"
        return None


def biased_or_plain(switches: Switches, plain: Logits, shaped: Logits) -> Logits:
    """The logits whose log probabilities are told."""
    return shaped if switches.logprobs_after_bias else plain


def _top(logits: Logits, count: int, named: int | None) -> TokenLogprobs:
    """The most probable ids, and one more by name where it is not among them: (value, rank)."""
    normaliser = logits.log_normaliser()
    ranked = logits.ranked()
    entry: TokenLogprobs = {
        token_id: (value - normaliser, rank)
        for rank, (token_id, value) in enumerate(ranked[: min(count, _MOST_LOGPROBS)], 1)
    }
    if named is not None and named not in entry:
        ranks = {token_id: rank for rank, (token_id, _) in enumerate(ranked, 1)}
        value = logits.values.get(named, FLOOR) - normaliser
        entry[named] = (value, ranks.get(named, len(ranked) + 1))
    return entry

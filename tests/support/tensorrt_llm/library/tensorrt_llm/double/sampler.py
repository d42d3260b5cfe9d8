"""Draws one id from logits: what each sampler of 1.2 honours it does, the rest it ignores.

Source: the contract's section 4. Log probabilities are of the model's logits, before temperature.
"""

import math
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from tensorrt_llm.double.model import FLOOR, Logits
from tensorrt_llm.double.switches import SamplerField


@dataclass(frozen=True, slots=True)
class Drawing:
    """How to draw; what the sampler ignores is already neutral here."""

    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float = 0.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    repetition_penalty: float = 1.0
    seed: int | None = None
    bias: Mapping[int, float] = field(default_factory=dict)

    @property
    def is_greedy(self) -> bool:
        """All unset, or one of them leaves a single id."""
        unset = self.temperature is None and self.top_p is None and self.top_k is None
        return unset or self.temperature == 0 or self.top_p == 0 or self.top_k == 1


def honoured(sampler_type: str, torch_sampler: frozenset[SamplerField]) -> frozenset[SamplerField]:
    """Fields that are not ignored."""
    if sampler_type == "TRTLLMSampler":
        return frozenset(
            ("presence_penalty", "frequency_penalty", "repetition_penalty", "seed", "min_p")
        )
    return torch_sampler


def biased(logits: Logits, bias: Mapping[int, float]) -> Logits:
    """Logits with each id's bias added; an id that was at the floor rises from there."""
    if not bias:
        return logits
    values = dict(logits.values)
    for token_id, amount in bias.items():
        values[token_id] = values.get(token_id, FLOOR) + amount
    return Logits(values, logits.vocabulary_size)


def penalised(
    logits: Logits, drawing: Drawing, prompt: Counter[int], output_ids: Sequence[int]
) -> Logits:
    """Presence and frequency count the output, repetition also the prompt."""
    if (drawing.presence_penalty, drawing.frequency_penalty, drawing.repetition_penalty) == (
        0,
        0,
        1,
    ):
        return logits
    output = Counter(output_ids)
    values = dict(logits.values)
    for token_id, value in values.items():
        lowered = value
        if prompt[token_id] or output[token_id]:
            factor = drawing.repetition_penalty
            lowered = value / factor if value > 0 else value * factor
        if output[token_id]:
            lowered -= drawing.presence_penalty + drawing.frequency_penalty * output[token_id]
        values[token_id] = lowered
    return Logits(values, logits.vocabulary_size)


def without(logits: Logits, banned: frozenset[int]) -> Logits:
    """Logits of the other ids; where none is left, of the lowest id that is not banned."""
    if not banned:
        return logits
    values = {token_id: v for token_id, v in logits.values.items() if token_id not in banned}
    if not values:
        values[next(i for i in range(logits.vocabulary_size) if i not in banned)] = 0.0
    return Logits(values, logits.vocabulary_size)


def draw(logits: Logits, drawing: Drawing, chance: random.Random) -> int:
    """One id."""
    ranked = logits.ranked()
    if drawing.is_greedy:
        return ranked[0][0]
    temperature = 1.0 if drawing.temperature is None else drawing.temperature
    if drawing.top_k:
        ranked = ranked[: drawing.top_k]
    weights = [math.exp((value - ranked[0][1]) / temperature) for _, value in ranked]
    kept = _kept(weights, drawing)
    return chance.choices([token_id for token_id, _ in ranked[:kept]], weights[:kept])[0]


def _kept(weights: list[float], drawing: Drawing) -> int:
    """How many of the descending weights top_p and min_p leave; at least one."""
    top_p = 1.0 if drawing.top_p is None else drawing.top_p
    target = top_p * sum(weights)
    kept, total = 0, 0.0
    while kept < len(weights) and (kept == 0 or total < target):
        total += weights[kept]
        kept += 1
    while kept > 1 and weights[kept - 1] < drawing.min_p * weights[0]:
        kept -= 1
    return kept

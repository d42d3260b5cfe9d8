"""The fake model: what comes next depends on the ids before, and on nothing else.

A 64-bit digest of (seed, adapter, all ids so far) names 32 candidates and their logits; all other
ids share a floor far below. So a continuation of prompt and output goes on as the whole would have.
At about one position in fourteen an end id leads.
"""

import hashlib
import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tensorrt_llm.double.switches import ModelFacts

NUM_CANDIDATES = 32
FLOOR = -30.0
_ENDING = 14
_MASK = (1 << 64) - 1
_PRIME = 0x9E3779B97F4A7C15


@dataclass(frozen=True, slots=True)
class Logits:
    """Logits of some ids; every other id of the vocabulary has FLOOR."""

    values: Mapping[int, float]
    vocabulary_size: int

    def log_normaliser(self) -> float:
        """Natural logarithm of the sum of all exponentials."""
        others = max(self.vocabulary_size - len(self.values), 0)
        top = max(self.values.values(), default=FLOOR)
        total = sum(math.exp(value - top) for value in self.values.values())
        return top + math.log(total + others * math.exp(FLOOR - top))

    def ranked(self) -> list[tuple[int, float]]:
        """Ids and logits, highest first; equals by id."""
        return sorted(self.values.items(), key=lambda item: (-item[1], item[0]))


class Context:
    """The ids before a position, as a digest that grows by one id at a time."""

    __slots__ = ("_state",)

    def __init__(self, seed: int, token_ids: Sequence[int] = (), *, adapter: str = "") -> None:
        start = hashlib.blake2b(f"{seed}{adapter}".encode(), digest_size=8).digest()
        self._state = int.from_bytes(start, "little")
        for token_id in token_ids:
            self.append(token_id)

    @property
    def digest(self) -> int:
        """64 bits."""
        return self._state

    def append(self, token_id: int) -> None:
        """One id more."""
        mixed = (self._state ^ (token_id + 1)) * _PRIME & _MASK
        self._state = mixed ^ (mixed >> 29)


class FakeModel:
    """Logits for a context; stateless."""

    def __init__(self, facts: ModelFacts) -> None:
        self.facts = facts

    def logits(self, context: Context) -> Logits:
        """The 32 candidates behind a context, without constraints."""
        chance = random.Random(context.digest)
        ends = self.facts.end_token_ids
        values = {
            chance.randrange(self.facts.vocabulary_size): chance.uniform(0.0, 6.0)
            for _ in range(NUM_CANDIDATES)
        }
        for end in ends:
            values.pop(end, None)
        if ends:
            leads = chance.randrange(_ENDING) == 0
            # Three in four ends are the tokenizer's own, the rest those that it does not know.
            end = ends[0] if chance.random() < 0.75 else chance.choice(ends)
            values[end] = 9.0 if leads else chance.uniform(-6.0, -2.0)
        return Logits(values, self.facts.vocabulary_size)

    def logits_within(
        self, context: Context, allowed: Sequence[int], closing: frozenset[int]
    ) -> Logits:
        """Candidates among `allowed` ids only; those that are `closing` lead more often."""
        chance = random.Random(context.digest)
        picked = allowed
        if len(allowed) > NUM_CANDIDATES:
            closers = [token_id for token_id in allowed if token_id in closing]
            picked = [*chance.sample(allowed, NUM_CANDIDATES), *closers[:NUM_CANDIDATES]]
        values = {}
        for token_id in picked:
            bonus = chance.choice((0.0, 4.0)) if token_id in closing else 0.0
            values[token_id] = chance.uniform(0.0, 6.0) + bonus
        return Logits(values, self.facts.vocabulary_size)

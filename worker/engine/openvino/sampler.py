"""Draws the next token of each sequence from its logits.

Order: penalties and biases, bans, temperature, top_k, top_p, min_p, draw. A row is worked on alone,
so that a draw depends on its logits, its parameters and (seed, output index, position), never on
the batch around it; and a row stays in the nearest cache, which makes row after row faster than
the same operations on the whole batch. Sorting the vocabulary would cost more than the rest of the
step: candidates are first cut by a threshold below which no kept token can lie, and only those are
sorted.
"""

import struct
from dataclasses import dataclass
from hashlib import blake2b, shake_128

import numpy as np

from worker.engine.openvino.adjustments import Adjustments
from worker.engine.openvino.candidates import FloatArray, IdArray, largest_ids
from worker.engine.openvino.guide_matcher import BoolArray
from worker.engine.seam import SamplingParams

# Below this temperature the weights of all but the most probable tokens underflow anyway.
_COLDEST = 1e-4
_LIKELY = 2.0**-8  # weight of tokens that mostly make up the nucleus, the best one weighing 1
_GROUP = 256  # tokens of which one is drawn once their group has been


@dataclass(frozen=True, slots=True)
class Draw:
    """How one token is drawn; `position` counts the output tokens before it.

    `banned_token_ids` cannot be drawn, whatever `adjustments` do, and `allowed` alone can, where
    given. Where what is allowed is all banned, the ban gives way.
    """

    sampling: SamplingParams
    seed: int
    output_index: int
    position: int
    banned_token_ids: frozenset[int] | None = None
    adjustments: Adjustments | None = None
    allowed: BoolArray | None = None

    @property
    def is_edited(self) -> bool:
        """The logits are not taken as they are."""
        return (
            bool(self.banned_token_ids) or self.adjustments is not None or self.allowed is not None
        )

    @property
    def is_greedy(self) -> bool:
        """Only the most probable token can be drawn."""
        return self.sampling.is_greedy or self.sampling.temperature < _COLDEST


class Sampler:
    """Draws tokens for a vocabulary of `vocabulary_size` ids. Not thread-safe: keeps buffers."""

    def __init__(self, vocabulary_size: int) -> None:
        self._edited = np.empty(vocabulary_size, np.float32)
        self._weights = np.empty(vocabulary_size, np.float32)
        self._group_starts = np.arange(0, vocabulary_size, _GROUP)

    def sample(self, logits: FloatArray, draws: list[Draw]) -> list[int | None]:
        """One id for each row of `logits` (rows, vocabulary); None where no token can be drawn.

        That is a row with NaN or infinity, or with every token banned. `logits` stay as they are.
        """
        best = logits.argmax(axis=1)
        return [
            self._sample_row(row, int(highest), draw)
            for row, highest, draw in zip(logits, best, draws, strict=True)
        ]

    def _sample_row(self, row: FloatArray, best: int, draw: Draw) -> int | None:
        # argmax puts NaN and infinity first, so the best one shows whether there is any.
        if not np.isfinite(row[best]):
            return None
        if draw.is_edited:
            row = self._edit(row, draw)
            best = int(row.argmax())
            if row[best] == -np.inf:
                return None
        if draw.is_greedy:
            return best
        return self._draw(row, best, draw)

    def _edit(self, row: FloatArray, draw: Draw) -> FloatArray:
        edited = self._edited
        np.copyto(edited, row)
        if draw.adjustments is not None:
            draw.adjustments.apply(edited)
        if draw.allowed is not None:
            np.copyto(edited, -np.inf, where=~draw.allowed)
        if draw.banned_token_ids:
            banned = list(draw.banned_token_ids)
            kept = edited[banned]
            edited[banned] = -np.inf
            if draw.allowed is not None and edited.max() == -np.inf:
                edited[banned] = kept
        return edited

    def _draw(self, row: FloatArray, best: int, draw: Draw) -> int:
        """Draw from weights relative to the most probable token, which weighs exactly 1."""
        sampling = draw.sampling
        weights = self._weights
        np.subtract(row, row[best], out=weights)
        weights *= np.float32(1 / sampling.temperature)
        np.exp(weights, out=weights)
        if not (0 < sampling.top_k < weights.size or sampling.top_p < 1 or sampling.min_p > 0):
            return self._draw_any(draw)
        chance = uniform(draw.seed, draw.output_index, draw.position)
        if 0 < sampling.top_k < weights.size:
            ids = largest_ids(weights, sampling.top_k)
            total = float(weights[ids].sum())
        else:
            total = float(weights.sum())
            ids = _candidates(weights, sampling, total)
        return _draw_among(ids, weights[ids], sampling, total, chance)

    def _draw_any(self, draw: Draw) -> int:
        """Draw from the whole vocabulary: first a group of tokens, then one in it.

        Both by the Gumbel-max trick (Gumbel 1954): the largest of log weight + noise is drawn with
        the weight's probability, and changes only where two are as near as the rounding of a
        batch's other sizes; a place in a running sum would be moved by all in front of it.
        """
        sums = np.add.reduceat(self._weights, self._group_starts)
        noise = _gumbel_noise(draw, sums.size + _GROUP)
        group = int((_log(sums) + noise[_GROUP:]).argmax())
        start = int(self._group_starts[group])
        inside = _log(self._weights[start : start + _GROUP])
        return start + int((inside + noise[: inside.size]).argmax())


def _log(weights: FloatArray) -> FloatArray:
    """Natural logarithms; minus infinity of 0, for what can never be drawn."""
    with np.errstate(divide="ignore"):
        return np.log(weights)


def _gumbel_noise(draw: Draw, count: int) -> FloatArray:
    """Standard Gumbel numbers that depend on the draw's seed, output index and position alone."""
    raw = shake_128(_place(draw.seed, draw.output_index, draw.position)).digest(4 * count)
    chances = (np.frombuffer(raw, "<u4") + 0.5) * 2.0**-32
    return -np.log(-np.log(chances))


def _place(seed: int, output_index: int, position: int) -> bytes:
    return struct.pack("<qII", seed, output_index, position)


def uniform(seed: int, output_index: int, position: int) -> float:
    """A number in [0, 1) that depends on these alone; `seed` is a signed 64-bit integer."""
    digest = blake2b(_place(seed, output_index, position), digest_size=8).digest()
    return (int.from_bytes(digest, "little") >> 11) * 2.0**-53


def _candidates(weights: FloatArray, sampling: SamplingParams, total: float) -> IdArray:
    """Ids in ascending order, all kept tokens among them, as few others as is cheap to tell.

    All tokens that together have top_p of the total contain the nucleus. Where the likely ones do
    not suffice: those below (1 - top_p) / vocabulary together have less than 1 - top_p. And min_p
    is relative to the best token's weight of 1.
    """
    if sampling.top_p < 1:
        ids = np.flatnonzero(weights >= _LIKELY)
        if float(weights[ids].sum()) >= sampling.top_p * total:
            return ids
    floor = max((1 - sampling.top_p) * total / weights.size, sampling.min_p)
    return np.flatnonzero(weights >= floor)


def _draw_among(
    ids: IdArray,
    weights: FloatArray,
    sampling: SamplingParams,
    total: float,
    chance: float,
) -> int:
    """Draw from candidates: the nucleus of `total`, of which only those that min_p allows."""
    order = np.argsort(-weights, kind="stable")
    ordered = weights[order]
    sums = ordered.cumsum(dtype=np.float64)
    kept = ordered.size
    if sampling.top_p < 1:
        kept = min(kept, int(sums.searchsorted(sampling.top_p * total, side="left")) + 1)
    if sampling.min_p > 0:
        kept = min(kept, int(np.count_nonzero(ordered >= np.float32(sampling.min_p))))
    place = int(sums[:kept].searchsorted(chance * sums[kept - 1], side="right"))
    # Rounding must not reach those at the end that weigh nothing.
    last = int(sums[:kept].searchsorted(sums[kept - 1], side="left"))
    return int(ids[order[min(place, last)]])

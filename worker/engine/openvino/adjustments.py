"""What a request's penalties and biases do to an output's logits, in time linear in its tokens.

Presence and frequency penalties see the output only, a prefix generated elsewhere included; the
repetition penalty sees the prompt as well. Order: repetition, frequency and presence, biases.
"""

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from worker.engine.openvino.candidates import FloatArray
from worker.engine.seam import EngineRequest, SamplingParams

_HIGHEST = 1e30  # of an edited logit: differences of such ones are still finite in single precision


class TokenCounts:
    """Tokens and how often each occurred, as arrays that grow in place."""

    def __init__(self, token_ids: Iterable[int]) -> None:
        self._places: dict[int, int] = {}
        self._ids = np.empty(64, np.intp)
        self._counts = np.empty(64, np.float32)
        for token_id in token_ids:
            self.add(token_id)

    def add(self, token_id: int) -> None:
        """One occurrence more."""
        place = self._places.get(token_id)
        if place is None:
            place = self._places[token_id] = len(self._places)
            if place == self._ids.size:
                self._ids = np.resize(self._ids, 2 * place)
                self._counts = np.resize(self._counts, 2 * place)
            self._ids[place], self._counts[place] = token_id, 0
        self._counts[place] += 1

    @property
    def ids(self) -> npt.NDArray[np.intp]:
        """Each token once, in order of its first occurrence."""
        return self._ids[: len(self._places)]

    @property
    def counts(self) -> FloatArray:
        """How often each of `ids` occurred."""
        return self._counts[: len(self._places)]


class Adjustments:
    """The edits of one output's logits; `add` each of its tokens before the next `apply`."""

    def __init__(self, request: EngineRequest) -> None:
        self._sampling = request.sampling
        prefix = request.output_prefix_token_ids
        self._output = TokenCounts(prefix) if _counts_output(request.sampling) else None
        self._seen: TokenCounts | None = None
        if request.sampling.repetition_penalty != 1:
            self._seen = TokenCounts([*request.prompt_token_ids, *prefix])
        bias = request.sampling.logit_bias
        self._bias_ids = np.array([token_id for token_id, _ in bias], np.intp)
        self._biases = np.array([value for _, value in bias], np.float32)

    def add(self, token_id: int) -> None:
        """The output has another token."""
        if self._output is not None:
            self._output.add(token_id)
        if self._seen is not None:
            self._seen.add(token_id)

    def apply(self, row: FloatArray) -> None:
        """Edit finite logits in place; they stay finite."""
        if self._seen is not None:
            row[self._seen.ids] = _repelled(row[self._seen.ids], self._sampling.repetition_penalty)
        if self._output is not None:
            frequency = np.float32(self._sampling.frequency_penalty)
            presence = np.float32(self._sampling.presence_penalty)
            row[self._output.ids] -= frequency * self._output.counts + presence
        if self._bias_ids.size:
            # A token may occur twice: both count.
            np.add.at(row, self._bias_ids, self._biases)


def adjustments_of(request: EngineRequest) -> Adjustments | None:
    """None for a request without penalties and biases."""
    sampling = request.sampling
    is_neutral = sampling.repetition_penalty == 1 and not sampling.logit_bias
    return None if is_neutral and not _counts_output(sampling) else Adjustments(request)


def _counts_output(sampling: SamplingParams) -> bool:
    return sampling.presence_penalty != 0 or sampling.frequency_penalty != 0


def _repelled(logits: FloatArray, penalty: float) -> FloatArray:
    """Positive ones divided, negative ones multiplied; tiny penalties end at a finite bound."""
    values = logits.astype(np.float64)
    edited = np.where(values > 0, values / penalty, values * penalty)
    return np.clip(edited, -_HIGHEST, _HIGHEST).astype(np.float32)

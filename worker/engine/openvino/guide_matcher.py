"""Follows one output through its guide: which tokens may come next, and what each token changes."""

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from llguidance import LLMatcher

BoolArray: TypeAlias = npt.NDArray[np.bool_]


class GuideMatcher:
    """One output's place in its guide. Not thread-safe: `allowed` and the rest take turns.

    The grammar knows one end token; where it allows that one, all of `end_token_ids` are allowed.
    """

    def __init__(
        self, matcher: LLMatcher, end_token_ids: Sequence[int], vocabulary_size: int
    ) -> None:
        self._matcher = matcher
        self._end_token_ids = list(end_token_ids)
        self._vocabulary_size = vocabulary_size

    def copy(self) -> "GuideMatcher":
        """Another output at the same place."""
        copied = self._matcher.deep_copy()
        return GuideMatcher(copied, self._end_token_ids, self._vocabulary_size)

    def allowed(self) -> BoolArray:
        """Which ids may come next; none of them when there is a `problem`. Leaves the GIL free."""
        mask = np.frombuffer(self._matcher.compute_bitmask(), np.uint8)
        if self._matcher.is_error():
            return np.zeros(self._vocabulary_size, np.bool_)
        bits = np.unpackbits(mask, bitorder="little", count=self._vocabulary_size)
        allowed = bits.view(np.bool_)
        allowed[self._end_token_ids] = allowed[self._end_token_ids].any()
        return allowed

    def consume(self, token_ids: Sequence[int]) -> bool:
        """Go on behind these tokens, of which none is an end; false where they do not fit."""
        return self._matcher.consume_tokens(list(token_ids))

    @property
    def problem(self) -> str:
        """Why nothing can follow, in llguidance's words; empty while something can."""
        return self._matcher.get_error() if self._matcher.is_error() else ""

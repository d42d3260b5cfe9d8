"""Which prefixes the load's own requests have left behind, by the digests of their full blocks.

A digest stands for its block and all blocks before it, so a set of them is a set of prefixes.
"""

from collections.abc import Iterable, Sequence

from headrace.digest import block_digests, root_digest


class KnownPrefixes:
    """Full blocks of tokens that completed requests have computed. Sizes are in tokens."""

    def __init__(self, model: str, block_size: int) -> None:
        self._root = root_digest(block_size, model)
        self._block_size = block_size
        self._known: set[bytes] = set()

    def add(self, token_ids: Sequence[int]) -> None:
        """A request has ended that computed keys and values for exactly these tokens."""
        self._known.update(self._digests(token_ids))

    def cached_at_best(self, prompt: Sequence[int]) -> int:
        """Tokens of the longest known prefix of a prompt in full blocks; the last is computed."""
        tokens = 0
        for digest in self._digests(prompt[:-1]):
            if digest not in self._known:
                break
            tokens += self._block_size
        return tokens

    def _digests(self, token_ids: Sequence[int]) -> Iterable[bytes]:
        return block_digests(self._root, self._block_size, token_ids)


def computed_tokens(
    prompt: Sequence[int], answer: Sequence[int], completion_tokens: int
) -> list[int]:
    """The tokens that a request has computed: its prompt, and its answer without the last token.

    The last token is drawn and never fed. `answer` are the ids of the answer's text, without the
    end token, which `completion_tokens` counts where there was one.
    """
    return [*prompt, *answer[: completion_tokens - 1]]

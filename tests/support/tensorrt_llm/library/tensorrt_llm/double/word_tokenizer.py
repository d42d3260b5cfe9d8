"""A tokenizer for models that have no files: id 7 is the word "w7", words are split at spaces."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Encoded:
    """What `encode` gives."""

    ids: list[int]


class WordTokenizer:
    """The methods of tokenizers.Tokenizer that the library's wrapper calls."""

    def __init__(self, vocabulary_size: int, end_token_ids: Sequence[int]) -> None:
        self._size = vocabulary_size
        self._ends = frozenset(end_token_ids)

    def get_vocab_size(self) -> int:
        """Number of ids."""
        return self._size

    def encode(self, text: str, *, add_special_tokens: bool = True) -> Encoded:
        """Words of another form are id 0; there are no special tokens to add."""
        del add_special_tokens
        numbers = [word.removeprefix("w") for word in text.split()]
        return Encoded([int(number) if number.isdigit() else 0 for number in numbers])

    def decode(self, token_ids: Sequence[int], *, skip_special_tokens: bool = True) -> str:
        """Words with spaces between; end tokens are special."""
        hidden = self._ends if skip_special_tokens else frozenset()
        return " ".join(f"w{token_id}" for token_id in token_ids if token_id not in hidden)

"""Text to token ids, by Hugging Face's tokenizers; the only module that imports them.

`encode` reads special tokens in the text as what they say. `encode_marked` reads only marks: each
special token has one, which holds a random number of this process, so that no client can write it.
Both split the text around special tokens in the same way, hence give ordinary text the same ids.
All methods block, release the interpreter lock meanwhile, and may run on several threads at once.
Making the list of ids keeps the lock, some 20 ms a million: a bound is checked before it is made.
"""

import json
import secrets
from collections.abc import Callable, Mapping
from typing import Any

from tokenizers import AddedToken, Encoding, Tokenizer

from headrace.runtime.errors import StartError

Count = Callable[[str], int]

_FLAGS = ("single_word", "lstrip", "rstrip", "normalized")
# A prefix is tried first where the text is longer than this many characters for each allowed token.
_PROBED_CHARACTERS_PER_TOKEN = 8
# … and than this many where most characters are not ASCII, of which some take several tokens each.
_PROBED_WIDE_CHARACTERS_PER_TOKEN = 2
_PROBE_GROWTH = 4
# A cut through a text changes the tokens next to it: at most so many more than in the whole.
_CUT_SLACK_TOKENS = 64


class TooManyTokensError(Exception):
    """A text has more tokens than it may."""

    def __init__(self, count: int) -> None:
        super().__init__(f"{count} tokens")
        self.count = count


class TextEncoder:
    """A model's tokenizer, from the parsed JSON of its tokenizer.json.

    `marks` maps each special token's text to its mark. Raises StartError for a broken document.
    """

    def __init__(self, document: Mapping[str, Any]) -> None:
        added = document.get("added_tokens") or []
        special = [entry for entry in added if entry["special"]]
        nonce = secrets.token_hex(8)
        self.marks = {
            entry["content"]: f"\U000f0000{nonce}{number:x}\U000f0001"
            for number, entry in enumerate(special)
        }
        self._plain = _load(document)
        # Special tokens go, and come back spelt as their marks; that moves the ids of added tokens.
        ordinary = [entry for entry in added if not entry["special"]]
        self._marked = _load({**document, "added_tokens": ordinary})
        self._marked.add_special_tokens([self._mark_token(entry) for entry in special])
        self._moved = self._moved_ids(added)

    def count(self, text: str) -> int:
        """How many ids `encode` gives."""
        return len(_encoding(self._plain, text))

    def count_marked(self, text: str) -> int:
        """How many ids `encode_marked` gives."""
        return len(_encoding(self._marked, text))

    def encode(self, text: str, max_tokens: int | None = None) -> list[int]:
        """Ids of the text; special tokens in it are read as what they say.

        Raises TooManyTokensError.
        """
        return _ids(_encoding(self._plain, text), max_tokens)

    def encode_marked(self, text: str, max_tokens: int | None = None) -> list[int]:
        """Ids of the text; marks are read as their special tokens, and everything else is text.

        Raises TooManyTokensError.
        """
        ids = _ids(_encoding(self._marked, text), max_tokens)
        moved = self._moved
        return [moved.get(token_id, token_id) for token_id in ids] if moved else ids

    def _mark_token(self, entry: Mapping[str, Any]) -> AddedToken:
        flags = {flag: entry.get(flag, False) for flag in _FLAGS}
        return AddedToken(self.marks[entry["content"]], special=True, **flags)

    def _moved_ids(self, added: list[Mapping[str, Any]]) -> dict[int, int]:
        moved = {}
        for entry in added:
            spelling = self.marks.get(entry["content"], entry["content"])
            moved[self._marked.token_to_id(spelling)] = entry["id"]
        return {here: there for here, there in moved.items() if here != there}


def exceeds(count_tokens: Count, text: str, max_tokens: int) -> int | None:
    """A count of tokens above `max_tokens` that a beginning of a long text has; None if unknown.

    Encoding 16 MB takes half a minute; this tries growing beginnings, so that a text which is far
    too long costs little more than one which is just too long.
    """
    is_wide = len(text.encode("utf-8", "replace")) > 2 * len(text)
    per_token = _PROBED_WIDE_CHARACTERS_PER_TOKEN if is_wide else _PROBED_CHARACTERS_PER_TOKEN
    size = per_token * max(max_tokens, 1)
    while size < len(text):
        count = count_tokens(text[:size]) - _CUT_SLACK_TOKENS
        if count > max_tokens:
            return count
        size *= _PROBE_GROWTH
    return None


def _load(document: Mapping[str, Any]) -> Tokenizer:
    try:
        tokenizer = Tokenizer.from_str(json.dumps(document))
    except Exception as error:  # tokenizers raises bare Exceptions
        raise StartError(f"the tokenizer cannot be loaded: {error}") from error
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def _encoding(tokenizer: Tokenizer, text: str) -> Encoding:
    # The only call of tokenizers that releases the interpreter lock.
    [encoding] = tokenizer.encode_batch_fast([text], add_special_tokens=False)
    return encoding


def _ids(encoding: Encoding, max_tokens: int | None) -> list[int]:
    if max_tokens is not None and len(encoding) > max_tokens:
        raise TooManyTokensError(len(encoding))
    ids: list[int] = encoding.ids
    return ids

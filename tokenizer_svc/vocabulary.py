"""What each token id says, read from a model's tokenizer.json.

Decoding follows the model's own decoder to the letter, its peculiarities included: with byte
fallback, a run of byte tokens that is not UTF-8 as a whole becomes one U+FFFD for each byte, also
for those that would be characters by themselves.
"""

import json
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from pathlib import Path
from typing import Any

from headrace.runtime.errors import StartError
from tokenizer_svc.token_spelling import read_spelling

REPLACEMENT = "\ufffd"


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """All ids of a model, 0 to len(token_bytes) - 1.

    `token_bytes`: what each id adds to a text; nothing for silent ids.
    `silent_ids`: special ids and ids without a token (padding of the model's embedding); a text is
    decoded as if they were not there.
    `special_bytes`: what special ids add to a text in which they are kept.
    `byte_ids`: tokens of byte fallback, one byte each; empty for ByteLevel.
    `first_token_bytes`: what an id adds instead where it is the first one that is not silent.
    `strips_leading_space`: a text loses one space in front.
    """

    token_bytes: Sequence[bytes]
    silent_ids: frozenset[int] = frozenset()
    special_bytes: Mapping[int, bytes] = field(default_factory=dict)
    byte_ids: frozenset[int] = frozenset()
    first_token_bytes: Mapping[int, bytes] = field(default_factory=dict)
    strips_leading_space: bool = False

    def decode(self, token_ids: Sequence[int], *, keep_special_tokens: bool = False) -> str:
        """Text of all ids at once; bytes that are no character are U+FFFD.

        Raises IndexError for an id outside the vocabulary.
        """
        kept = self.special_bytes if keep_special_tokens else {}
        raw = [kept.get(token_id, self.token_bytes[token_id]) for token_id in token_ids]
        visible = [
            (token_id, part)
            for token_id, part in zip(token_ids, raw, strict=True)
            if token_id in kept or token_id not in self.silent_ids
        ]
        if visible:
            token_id, part = visible[0]
            visible[0] = token_id, self.first_token_bytes.get(token_id, part)
        text = "".join(self._texts(visible))
        return text.removeprefix(" ") if self.strips_leading_space else text

    def showing(self, texts: Container[str]) -> "Vocabulary":
        """The same vocabulary, in which special ids that say one of these are text like others."""
        shown = {
            token_id: raw
            for token_id, raw in self.special_bytes.items()
            if raw.decode("utf-8", "replace") in texts
        }
        if not shown:
            return self
        token_bytes = list(self.token_bytes)
        for token_id, raw in shown.items():
            token_bytes[token_id] = raw
        return replace(self, token_bytes=token_bytes, silent_ids=self.silent_ids.difference(shown))

    def _texts(self, tokens: Iterable[tuple[int, bytes]]) -> Iterator[str]:
        # Without byte fallback everything is one group.
        for is_run, group in groupby(tokens, lambda token: token[0] in self.byte_ids):
            raw = b"".join(part for _, part in group)
            yield run_text(raw) if is_run else raw.decode("utf-8", "replace")


def run_text(raw: bytes) -> str:
    """The text of a whole run of byte tokens."""
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return REPLACEMENT * len(raw)


def read_vocabulary(tokenizer_json: Path, size: int = 0) -> Vocabulary:
    """Read a tokenizer.json; `size` is the least number of ids, the rest being without a token.

    Raises StartError when the file is missing or broken, or is of a family that is not known.
    """
    try:
        document = json.loads(tokenizer_json.read_bytes())
        return vocabulary_from_document(document, size)
    except OSError as error:
        raise StartError(f"{tokenizer_json} cannot be read: {error.strerror}.") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise StartError(f"{tokenizer_json} is no usable tokenizer: {error}.") from error


def vocabulary_from_document(document: Mapping[str, Any], size: int = 0) -> Vocabulary:
    """Build the vocabulary from the parsed JSON of a tokenizer.json."""
    spelling = read_spelling(document.get("decoder"))
    added = document.get("added_tokens") or []
    tokens = {token_id: token for token, token_id in _model_tokens(document["model"])}
    tokens.update((entry["id"], entry["content"]) for entry in added)
    special = {entry["id"] for entry in added if entry["special"]}
    said = {token_id: token for token_id, token in tokens.items() if token_id not in special}
    token_bytes = [b""] * max(size, max(tokens, default=-1) + 1)
    first = {}
    for token_id, token in said.items():
        token_bytes[token_id] = spelling.bytes_of(token)
        if spelling.dropped_marks:
            first[token_id] = spelling.first_bytes_of(token)
    return Vocabulary(
        token_bytes,
        silent_ids=frozenset(range(len(token_bytes))).difference(said),
        special_bytes={token_id: spelling.bytes_of(tokens[token_id]) for token_id in special},
        byte_ids=frozenset(token_id for token_id in said if spelling.is_byte(said[token_id])),
        first_token_bytes=first,
        strips_leading_space=spelling.strips_leading_space,
    )


def _model_tokens(model: Mapping[str, Any]) -> Iterable[tuple[str, int]]:
    vocab = model["vocab"]
    if isinstance(vocab, list):  # Unigram: pairs of token and score, in the order of their ids
        return [(token, token_id) for token_id, (token, _) in enumerate(vocab)]
    return list(vocab.items())

"""What each token id says: its raw bytes, and its text where the bytes are whole characters.

Read from a model's tokenizer.json. Two families are known: ByteLevel BPE, whose tokens are spelled
in an alphabet of 256 printable characters, one a byte; and Metaspace, whose tokens are text with a
mark for the space and, with byte fallback, tokens `<0xNN>` for single bytes. Special tokens have no
bytes: they are never text.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from headrace.runtime.errors import StartError

_BYTE_TOKENS = {f"<0x{byte:02X}>": bytes([byte]) for byte in range(256)}
# Decoder steps that join tokens and leave their characters alone.
_NEUTRAL_STEPS = frozenset({"Fuse"})


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """All ids of a model, 0 to len(token_bytes) - 1.

    `token_bytes` are empty for special ids and for ids without a token (padding of the model's
    embedding). `token_texts` are None where the bytes are not whole characters on their own.
    `special_tokens` maps special ids to their spelling.
    """

    token_bytes: Sequence[bytes]
    token_texts: Sequence[str | None]
    special_tokens: Mapping[int, str]
    strips_leading_space: bool = False

    def decode(self, token_ids: Iterable[int], *, keep_special_tokens: bool = False) -> str:
        """Text of all ids at once; bytes that are no character are U+FFFD.

        Raises IndexError for an id outside the vocabulary.
        """
        parts = [self.token_bytes[token_id] for token_id in token_ids]
        if keep_special_tokens:
            parts = [
                self.special_tokens[token_id].encode() if token_id in self.special_tokens else part
                for token_id, part in zip(token_ids, parts, strict=True)
            ]
        text = b"".join(parts).decode("utf-8", "replace")
        return text.removeprefix(" ") if self.strips_leading_space else text


@dataclass(frozen=True, slots=True)
class _Spelling:
    """How a tokenizer writes bytes as tokens, read from its decoder."""

    is_byte_level: bool = False
    space_marks: frozenset[str] = frozenset()
    has_byte_tokens: bool = False
    strips_leading_space: bool = False


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
    spelling = _spelling(document.get("decoder"))
    tokens = _model_tokens(document["model"])
    added = document.get("added_tokens") or []
    ids = [*tokens.values(), *(entry["id"] for entry in added)]
    token_bytes = [b""] * max(size, max(ids, default=-1) + 1)
    for token, token_id in tokens.items():
        token_bytes[token_id] = _bytes_of(token, spelling)
    special = {}
    for entry in added:
        # The spelling of an added token is literal in both families.
        token_bytes[entry["id"]] = b"" if entry["special"] else entry["content"].encode()
        if entry["special"]:
            special[entry["id"]] = entry["content"]
    texts = [_whole_text(raw) for raw in token_bytes]
    return Vocabulary(token_bytes, texts, special, spelling.strips_leading_space)


def byte_alphabet() -> dict[str, int]:
    """The printable character that stands for each byte in ByteLevel tokens, reversed.

    Printable Latin-1 characters stand for themselves; the other 68 bytes, in order, are written as
    the characters from U+0100 on.
    """
    own = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    moved = [byte for byte in range(256) if byte not in own]
    alphabet = {chr(byte): byte for byte in own}
    alphabet.update({chr(0x100 + place): byte for place, byte in enumerate(moved)})
    return alphabet


_ALPHABET = byte_alphabet()
_ALPHABET_TABLE = str.maketrans({mark: chr(byte) for mark, byte in _ALPHABET.items()})
_ALPHABET_MARKS = frozenset(_ALPHABET)


def _bytes_of(token: str, spelling: _Spelling) -> bytes:
    if spelling.is_byte_level:
        if _ALPHABET_MARKS.issuperset(token):
            return token.translate(_ALPHABET_TABLE).encode("latin-1")
        return token.encode()
    if spelling.has_byte_tokens and token in _BYTE_TOKENS:
        return _BYTE_TOKENS[token]
    for mark in spelling.space_marks:
        token = token.replace(mark, " ")
    return token.encode()


def _whole_text(raw: bytes) -> str | None:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return None


def _model_tokens(model: Mapping[str, Any]) -> Mapping[str, int]:
    vocab = model["vocab"]
    if isinstance(vocab, list):  # Unigram: pairs of token and score, in the order of their ids
        return {token: token_id for token_id, (token, _) in enumerate(vocab)}
    return dict(vocab)


def _spelling(decoder: Mapping[str, Any] | None) -> _Spelling:
    steps = _decoder_steps(decoder)
    kinds = {step["type"] for step in steps}
    if "ByteLevel" in kinds:
        return _Spelling(is_byte_level=True)
    unknown = kinds - _NEUTRAL_STEPS - {"Replace", "Metaspace", "ByteFallback", "Strip"}
    if unknown or not kinds & {"Replace", "Metaspace"}:
        known = "ByteLevel, and Metaspace or Replace with ByteFallback, Fuse and Strip"
        raise ValueError(f"its decoder {sorted(kinds)} is not supported; known are {known}")
    return _Spelling(
        space_marks=frozenset(filter(None, map(_space_mark, steps))),
        has_byte_tokens="ByteFallback" in kinds,
        strips_leading_space=any(map(_strips_leading_space, steps)),
    )


def _decoder_steps(decoder: Mapping[str, Any] | None) -> list[Mapping[str, Any]]:
    if decoder is None:
        return []
    if decoder["type"] == "Sequence":
        return [step for inner in decoder["decoders"] for step in _decoder_steps(inner)]
    return [decoder]


def _space_mark(step: Mapping[str, Any]) -> str | None:
    if step["type"] == "Metaspace":
        return str(step["replacement"])
    if step["type"] == "Replace":
        mark = step["pattern"].get("String")
        if step["content"] != " " or not mark:
            raise ValueError("its decoder replaces something else than a mark by a space")
        return str(mark)
    return None


def _strips_leading_space(step: Mapping[str, Any]) -> bool:
    if step["type"] == "Metaspace":
        scheme = step.get("prepend_scheme")
        return bool(step.get("add_prefix_space", True)) if scheme is None else scheme != "never"
    return bool(step["type"] == "Strip" and step["content"] == " " and step["start"] > 0)

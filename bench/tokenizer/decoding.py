"""CPU time of a decoded token, by what the decoder is in the middle of."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from time import process_time
from typing import Any

from tokenizer_svc.detokenizer import DecodingRules
from tokenizer_svc.fallback_detokenizer import detokenizer_class
from tokenizer_svc.token_spelling import byte_alphabet
from tokenizer_svc.vocabulary import Vocabulary, vocabulary_from_document

_WORDS = ("the", "water", "runs", "through", "a", "channel", "and", "turns", "wheel")
_MARK = "▁"
_FACE = "😀".encode()
# A request's stop strings, and one of which the text is nothing but beginnings.
_STOPS = ("\nUser:", "<END>")
_ENDLESS_STOP = "a" * 60 + "b"


@dataclass(frozen=True)
class DecodingSample:
    """Microseconds a token of one state, at a length."""

    family: str
    state: str
    tokens: int
    us_per_token: float


def vocabularies() -> Mapping[str, Vocabulary]:
    """A small vocabulary of each family: a token for each byte, and some words."""
    marks = {byte: mark for mark, byte in byte_alphabet().items()}
    byte_level = [marks[byte] for byte in range(256)] + ["Ġ" + word for word in _WORDS]
    metaspace = [f"<0x{byte:02X}>" for byte in range(256)] + [_MARK + word for word in _WORDS]
    steps: list[dict[str, Any]] = [
        {"type": "Replace", "pattern": {"String": _MARK}, "content": " "},
        {"type": "ByteFallback"},
        {"type": "Fuse"},
        {"type": "Strip", "content": " ", "start": 1, "stop": 0},
    ]
    return {
        "ByteLevel": _vocabulary(byte_level, {"type": "ByteLevel"}),
        "Metaspace": _vocabulary([*metaspace, "a"], {"type": "Sequence", "decoders": steps}),
    }


def measure(lengths: Sequence[int]) -> list[DecodingSample]:
    """Every state of every family, fed token by token."""
    samples = []
    for family, vocabulary in vocabularies().items():
        for state, (pattern, stops) in _states(len(vocabulary.token_bytes)).items():
            for length in lengths:
                token_ids = (pattern * (length // len(pattern) + 1))[:length]
                seconds = _seconds(vocabulary, token_ids, stops)
                samples.append(DecodingSample(family, state, length, 1e6 * seconds / length))
    return samples


def _states(size: int) -> Mapping[str, tuple[list[int], Sequence[str]]]:
    words = list(range(256, 256 + len(_WORDS)))
    a = size - 1 if size > 256 + len(_WORDS) else ord("a")
    return {
        "clean": (words, _STOPS),
        "stop beginnings": ([a], (*_STOPS, _ENDLESS_STOP)),
        "split characters": ([*_FACE, words[0]], _STOPS),
        "only split characters": (list(_FACE), _STOPS),
        "never a character": ([0x80], _STOPS),
        "never a character, stop beginnings": ([0x80], ("\ufffd" * 60 + "b",)),
    }


def _seconds(vocabulary: Vocabulary, token_ids: Sequence[int], stops: Sequence[str]) -> float:
    state = detokenizer_class(vocabulary)(DecodingRules(vocabulary, stops))
    begin = process_time()
    for token_id in token_ids:
        state.feed((token_id,))
    state.flush()
    return process_time() - begin


def _vocabulary(tokens: Sequence[str], decoder: Mapping[str, Any]) -> Vocabulary:
    vocab = {token: token_id for token_id, token in enumerate(tokens)}
    return vocabulary_from_document({"model": {"vocab": vocab}, "decoder": decoder})

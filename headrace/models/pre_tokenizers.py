"""How text is cut before byte-pair merging, by the name that a GGUF gives in tokenizer.ggml.pre.

The name stands for the pre_tokenizer of the tokenizer.json that the GGUF was made from, and decides
token ids: one that is not known here is refused by name, never guessed. The source of each entry
stands above it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}


@dataclass(frozen=True, slots=True)
class PreTokenizer:
    """The parts of a tokenizer.json that depend on the family.

    `ignores_merges`: a piece that is a token as a whole is taken as it is, without merging.
    """

    pre_tokenizer: Mapping[str, Any]
    normalizer: Mapping[str, Any] | None = None
    ignores_merges: bool = False


def _split_by(pattern: str) -> dict[str, Any]:
    """Pieces are the pattern's matches and what lies between them; bytes come afterwards."""
    split = {
        "type": "Split",
        "pattern": {"Regex": pattern},
        "behavior": "Isolated",
        "invert": False,
    }
    return {
        "type": "Sequence",
        "pretokenizers": [split, _BYTE_LEVEL | {"use_regex": False}],
    }


def _words_and_digits(digits: str) -> str:
    """The pattern that Llama 3 and Qwen 2 share but for how many digits go together."""
    return (
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
        r"|[^\r\n\p{L}\p{N}]?\p{L}+"
        rf"|{digits}"
        r"| ?[^\s\p{L}\p{N}]+[\r\n]*"
        r"|\s*[\r\n]+"
        r"|\s+(?!\S)"
        r"|\s+"
    )


# GPT-2's own pattern is built into the ByteLevel pre-tokenizer; openai/gpt-2's encoder.py has it.
_GPT2 = PreTokenizer({**_BYTE_LEVEL, "use_regex": True})

# HuggingFaceTB/SmolLM2-135M-Instruct, tokenizer.json: digits one by one, then GPT-2's pattern.
_SMOLLM = PreTokenizer(
    {
        "type": "Sequence",
        "pretokenizers": [
            {"type": "Digits", "individual_digits": True},
            _BYTE_LEVEL | {"use_regex": True},
        ],
    }
)

# meta-llama/Meta-Llama-3-8B-Instruct, tokenizer.json: up to three digits go together, and a piece
# that is a token is not merged (`ignore_merges`).
_LLAMA3 = PreTokenizer(_split_by(_words_and_digits(r"\p{N}{1,3}")), ignores_merges=True)

# Qwen/Qwen2-7B-Instruct, tokenizer.json, and transformers' Qwen2Tokenizer: digits one by one,
# composed characters (NFC). Qwen 2.5 and 3 and the models distilled into them have the same.
_QWEN2 = PreTokenizer(_split_by(_words_and_digits(r"\p{N}")), normalizer={"type": "NFC"})

PRE_TOKENIZERS: Mapping[str, PreTokenizer] = {
    "gpt-2": _GPT2,
    "smollm": _SMOLLM,
    "llama3": _LLAMA3,
    "llama-v3": _LLAMA3,
    "llama-bpe": _LLAMA3,
    "qwen2": _QWEN2,
    "deepseek-r1-qwen": _QWEN2,
}
"""By the names that llama.cpp's converters write."""

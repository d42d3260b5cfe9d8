import inspect
import json
from typing import Any

import pytest
from tokenizers import Tokenizer
from tokenizers.pre_tokenizers import PreTokenizer as Cutter
from transformers import Qwen2Tokenizer
from transformers.convert_slow_tokenizer import TikTokenConverter

from headrace.models.pre_tokenizers import PRE_TOKENIZERS

TEXT = "I'M 12345 años\n\n  x=(1) it's"
PIECES = {
    "gpt-2": ["I", "'", "M", " 12345", " años", "\n\n ", " x", "=(", "1", ")", " it", "'s"],
    "smollm": [
        *["I", "'", "M", " ", "1", "2", "3", "4", "5", " años", "\n\n ", " x", "=("],
        *["1", ")", " it", "'s"],
    ],
    "llama-bpe": [
        *["I", "'M", " ", "123", "45", " años", "\n\n", " ", " x", "=(", "1", ")", " it", "'s"]
    ],
    "qwen2": [
        *["I", "'M", " ", "1", "2", "3", "4", "5", " años", "\n\n", " ", " x", "=("],
        *["1", ")", " it", "'s"],
    ],
}


def document_with(pre: str) -> dict[str, Any]:
    family = PRE_TOKENIZERS[pre]
    return {
        "version": "1.0",
        "added_tokens": [],
        "normalizer": family.normalizer,
        "pre_tokenizer": family.pre_tokenizer,
        "model": {"type": "BPE", "vocab": {}, "merges": [], "ignore_merges": family.ignores_merges},
    }


def cutter(pre: str) -> Cutter:
    return Tokenizer.from_str(json.dumps(document_with(pre))).pre_tokenizer


def pieces(pre: str, text: str) -> list[str]:
    return [text[begin:end] for _, (begin, end) in cutter(pre).pre_tokenize_str(text)]


def pattern(pre: str) -> str:
    split = document_with(pre)["pre_tokenizer"]["pretokenizers"][0]
    regex: str = split["pattern"]["Regex"]
    return regex


@pytest.mark.parametrize("pre", PIECES)
def test_each_family_cuts_in_its_own_way(pre: str) -> None:
    """Contractions, digits, blanks and line ends tell the families apart."""
    assert pieces(pre, TEXT) == PIECES[pre]


def test_qwen2_cuts_as_transformers_does() -> None:
    """Transformers builds Qwen's tokenizer itself: pieces and normaliser are the same."""
    theirs = Qwen2Tokenizer().backend_tokenizer
    text = TEXT + " \t\r\n ÅngstrÅ we'Ll 日本語 😀!!\n  "
    ours = Tokenizer.from_str(json.dumps(document_with("qwen2")))

    assert cutter("qwen2").pre_tokenize_str(text) == theirs.pre_tokenizer.pre_tokenize_str(text)
    assert ours.normalizer.normalize_str(text) == theirs.normalizer.normalize_str(text)


def test_llama3_has_the_pattern_that_transformers_converts_it_with() -> None:
    """Transformers turns Llama 3's vocabulary into a tokenizer.json with this pattern."""
    theirs = inspect.signature(TikTokenConverter).parameters["pattern"].default

    assert pattern("llama-bpe") == theirs


def test_names_of_one_family_are_equal() -> None:
    """Converters have given one family several names."""
    assert PRE_TOKENIZERS["llama3"] == PRE_TOKENIZERS["llama-bpe"] == PRE_TOKENIZERS["llama-v3"]
    assert PRE_TOKENIZERS["deepseek-r1-qwen"] == PRE_TOKENIZERS["qwen2"]

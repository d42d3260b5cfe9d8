import json
from typing import Any

import pytest
from tokenizers import Tokenizer

from headrace.models.gguf_tokenizer import check_tokenizer, tokenizer_object, tokenizer_settings
from headrace.models.refusal import UnservableError
from tests.support.tiny_gguf import TinyGguf


@pytest.fixture
def metadata() -> dict[str, Any]:
    return TinyGguf(pre="qwen2").metadata() | {"general.architecture": "llama"}


def tokenizer_of(metadata: dict[str, Any]) -> Tokenizer:
    return Tokenizer.from_str(json.dumps(tokenizer_object(metadata)))


def test_a_bpe_tokenizer_is_taken(metadata: dict[str, Any]) -> None:
    """What the tests write is complete: nothing is raised, and text comes back as it was."""
    check_tokenizer(metadata)
    tokenizer = tokenizer_of(metadata)
    text = "<|im_start|>Hello, wheel: ça va? 😀\n"

    assert tokenizer.decode(tokenizer.encode(text).ids, skip_special_tokens=False) == text


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("tokenizer.ggml.model", None, "holds no tokenizer"),
        ("tokenizer.ggml.tokens", None, "holds no tokenizer"),
        ("tokenizer.ggml.model", "llama", "tokenizer.ggml.model is 'llama', only 'gpt2'"),
        ("tokenizer.ggml.pre", "tekken", "tokenizer.ggml.pre is 'tekken', unknown; known are"),
        ("tokenizer.ggml.pre", None, "tokenizer.ggml.pre is None, unknown"),
        ("tokenizer.ggml.token_type", [1], "token_type has 1 entries for"),
        ("tokenizer.ggml.merges", None, "has no merges"),
        ("tokenizer.chat_template", None, "has no chat template"),
        ("tokenizer.ggml.eos_token_id", None, "names no end token"),
        ("tokenizer.ggml.bos_token_id", 70_000, "bos_token_id is 70000, the tokenizer has"),
        ("tokenizer.ggml.eot_token_id", 70_000, "eot_token_id is 70000"),
    ],
)
def test_what_would_have_to_be_guessed_is_refused(
    metadata: dict[str, Any], key: str, value: object, message: str
) -> None:
    """Each lacking or unknown entry is named."""
    changed = metadata | {key: value}
    if value is None:
        del changed[key]

    with pytest.raises(UnservableError, match=message):
        check_tokenizer(changed)


def test_added_words_are_tokens_and_stay_text(metadata: dict[str, Any]) -> None:
    """A token of the kind `user defined` is found in text as a whole, and is not special."""
    tokens, types = metadata["tokenizer.ggml.tokens"], metadata["tokenizer.ggml.token_type"]
    tokens.append("<tool call>")
    types.append(4)
    tokenizer = tokenizer_of(metadata)
    ids = tokenizer.encode("a<tool call>a").ids

    assert ids[1] == len(tokens) - 1
    assert tokenizer.decode(ids, skip_special_tokens=True) == "a<tool call>a"


def test_unused_ids_have_no_text(metadata: dict[str, Any]) -> None:
    """Padding of the vocabulary is neither written nor said."""
    metadata["tokenizer.ggml.tokens"].append("[PAD]")
    metadata["tokenizer.ggml.token_type"].append(5)
    tokenizer = tokenizer_of(metadata)

    assert tokenizer.token_to_id("[PAD]") is None
    assert tokenizer.decode([len(metadata["tokenizer.ggml.tokens"]) - 1]) == ""


def test_whole_tokens_win_over_merges_in_llama_3_only(metadata: dict[str, Any]) -> None:
    """A word that is a token, but that no merges lead to, is taken as it is by Llama 3."""
    tokens, types = metadata["tokenizer.ggml.tokens"], metadata["tokenizer.ggml.token_type"]
    tokens.append("zqzq")
    types.append(1)

    assert tokenizer_of(metadata | {"tokenizer.ggml.pre": "llama-bpe"}).encode("zqzq").tokens == [
        "zqzq"
    ]
    assert tokenizer_of(metadata).encode("zqzq").tokens == ["z", "q", "z", "q"]


def test_named_templates_are_taken(metadata: dict[str, Any]) -> None:
    """Beside the default one there may be one for tools; alone the default is no list."""
    default = metadata["tokenizer.chat_template"]
    assert tokenizer_settings(metadata)["chat_template"] == default

    metadata["tokenizer.chat_template.tool_use"] = "tools"
    assert tokenizer_settings(metadata)["chat_template"] == [
        {"name": "default", "template": default},
        {"name": "tool_use", "template": "tools"},
    ]


def test_settings_name_only_what_the_file_names(metadata: dict[str, Any]) -> None:
    """Special tokens that the file does not name are absent, not guessed."""
    settings = tokenizer_settings(metadata)
    end = "<|im_end|>"
    assert settings["eos_token"] == end
    assert "pad_token" not in settings

    metadata["tokenizer.ggml.padding_token_id"] = metadata["tokenizer.ggml.eos_token_id"]
    assert tokenizer_settings(metadata)["pad_token"] == end

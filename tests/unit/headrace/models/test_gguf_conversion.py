import json
from pathlib import Path

import pytest
from tokenizers import Tokenizer

from headrace.models.cache import resolve_model
from headrace.models.default import DEFAULT_MODEL
from headrace.models.directory import open_model_directory
from headrace.models.gguf_conversion import generation_config, model_config
from headrace.models.gguf_tokenizer import tokenizer_object, tokenizer_settings

BYTES_AS_TOKENS = [
    *(chr(code) for code in range(ord("!"), ord("~") + 1)),
    *(chr(code) for code in range(0xA1, 0xAD)),
    *(chr(code) for code in range(0xAE, 0x100)),
    *(chr(code) for code in range(0x100, 0x144)),
]


@pytest.fixture
def metadata() -> dict[str, object]:
    """A small model of the same family: three special tokens, all bytes, a few merges."""
    tokens = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", *BYTES_AS_TOKENS, "12", "ab", "Ġa"]
    return {
        "general.architecture": "llama",
        "tokenizer.ggml.pre": "smollm",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": [3, 3, 3] + [1] * (len(tokens) - 3),
        "tokenizer.ggml.merges": ["1 2", "a b", "Ġ a"],
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 2,
        "tokenizer.ggml.padding_token_id": 2,
        "tokenizer.ggml.unknown_token_id": 0,
        "tokenizer.ggml.add_bos_token": False,
        "tokenizer.ggml.add_space_prefix": False,
        "tokenizer.chat_template": "{{ messages }}",
        "llama.context_length": 64,
        "llama.embedding_length": 8,
        "llama.feed_forward_length": 16,
        "llama.attention.head_count": 2,
        "llama.attention.head_count_kv": 1,
        "llama.block_count": 1,
        "llama.attention.layer_norm_rms_epsilon": 1e-5,
        "llama.rope.freq_base": 10000.0,
    }


def tokenizer_of(metadata: dict[str, object]) -> Tokenizer:
    return Tokenizer.from_str(json.dumps(tokenizer_object(metadata)))


def test_digits_are_taken_one_by_one(metadata: dict[str, object]) -> None:
    """A merge of two digits is never used, since digits are split before merging."""
    assert tokenizer_of(metadata).encode("12ab").tokens == ["1", "2", "ab"]


def test_special_tokens_are_recognised_and_nothing_is_added(metadata: dict[str, object]) -> None:
    """Special tokens have their ids; neither a space nor a start token is put before the text."""
    assert tokenizer_of(metadata).encode("<|im_start|>a<|im_end|>").ids[::2] == [1, 2]
    assert tokenizer_of(metadata).encode("a a").tokens == ["a", "Ġa"]


def test_the_written_files_are_a_model_directory(
    metadata: dict[str, object], tmp_path: Path
) -> None:
    """What the conversion writes is what the services read."""
    files = {
        "tokenizer.json": tokenizer_object(metadata),
        "tokenizer_config.json": tokenizer_settings(metadata),
        "config.json": model_config(metadata, is_tied=True),
        "generation_config.json": generation_config(metadata),
    }
    for name, value in files.items():
        (tmp_path / name).write_text(json.dumps(value))
    model = open_model_directory(tmp_path)

    assert (model.context_length, model.end_token_ids) == (64, {2})
    assert model.vocabulary_size == len(BYTES_AS_TOKENS) + 6


# Ids that OpenVINO's own tokenizer gave, made from the same GGUF: an independent implementation.
KNOWN_IDS = {
    "Hello world": [19556, 905],
    "Hello, world 2024! 😀 日本": (
        [19556, 28, 905, 216, 34, 32, 34, 36, 17, 40303, 218, 17097, 241, 115, 40993]
    ),
    "a1b22c333  4": [81, 33, 82, 34, 34, 83, 35, 35, 35, 256, 36],
    "x\n\n 12 I'm <|im_end|>": [104, 8866, 33, 34, 339, 5248, 216, 2],
}


@pytest.mark.model
@pytest.mark.parametrize("text", KNOWN_IDS)
def test_the_default_model_tokenizes_as_another_implementation_does(text: str) -> None:
    """Digits, spaces, symbols, other scripts and special tokens give the ids that are known."""
    folder = resolve_model(DEFAULT_MODEL.name)
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    ids = tokenizer.encode(text, add_special_tokens=False).ids

    assert ids == KNOWN_IDS[text]
    assert tokenizer.decode(ids, skip_special_tokens=False) == text


@pytest.mark.model
def test_the_default_model_has_the_same_fingerprint_everywhere() -> None:
    """The conversion is the same byte for byte, whatever library versions made it."""
    model = open_model_directory(resolve_model(DEFAULT_MODEL.name))

    assert model.tokenizer_fingerprint == "a9c052235bb44efe8087ead1cfcfafb8"

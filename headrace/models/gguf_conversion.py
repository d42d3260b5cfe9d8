"""Turn a GGUF file of the SmolLM2 family into a model directory; a program of its own.

`python -m headrace.models.gguf_conversion FILE.gguf FOLDER`, run as a child process so that no
service loads the converters. The JSON files depend on the GGUF's metadata alone, byte for byte: the
tokenizer's fingerprint is the same on every machine, whatever library versions it has. The weights
are written by OpenVINO GenAI, in the GGUF's own quantisation.
"""

import json
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import gguf
import openvino_genai

_CONTROL_TOKEN = 3
"""GGUF's token type for special tokens."""

_SUPPORTED = {
    "general.architecture": "llama",
    "tokenizer.ggml.model": "gpt2",
    "tokenizer.ggml.pre": "smollm",
}


def convert(source: Path, folder: Path) -> None:
    """Write tokenizer, configuration and weights of `source` into `folder`, which must exist.

    Raises ValueError for a GGUF of another family: its pre-tokenizer would be guessed wrongly.
    """
    # Reading the metadata takes Python seconds, the weights take the library as long: side by side.
    with ThreadPoolExecutor(max_workers=1) as pool:
        weights = pool.submit(_write_weights, source, folder)
        _write_configuration(source, folder)
        weights.result()


def _write_configuration(source: Path, folder: Path) -> None:
    reader = gguf.GGUFReader(source)
    metadata = {key: field.contents() for key, field in reader.fields.items()}
    for key, value in _SUPPORTED.items():
        if metadata.get(key) != value:
            raise ValueError(f"{key} is {metadata.get(key)!r}, only {value!r} can be converted")
    _write(folder / "tokenizer.json", tokenizer_object(metadata))
    _write(folder / "tokenizer_config.json", tokenizer_settings(metadata))
    _write(folder / "config.json", model_config(metadata))
    _write(folder / "generation_config.json", generation_config(metadata))


def tokenizer_object(metadata: dict[str, Any]) -> dict[str, Any]:
    """tokenizer.json: byte-level BPE that takes digits one by one before GPT-2's pattern."""
    tokens: list[str] = metadata["tokenizer.ggml.tokens"]
    types: list[int] = metadata["tokenizer.ggml.token_type"]
    special = [index for index, kind in enumerate(types) if kind == _CONTROL_TOKEN]
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [_added_token(index, tokens[index]) for index in special],
        "normalizer": None,
        "pre_tokenizer": {
            "type": "Sequence",
            "pretokenizers": [
                {"type": "Digits", "individual_digits": True},
                byte_level | {"use_regex": True},
            ],
        },
        "post_processor": None,
        "decoder": byte_level | {"use_regex": True},
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": False,
            "vocab": {token: index for index, token in enumerate(tokens)},
            "merges": metadata["tokenizer.ggml.merges"],
        },
    }


def _added_token(index: int, content: str) -> dict[str, Any]:
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    return {"id": index, "content": content, **flags, "special": True}


def tokenizer_settings(metadata: dict[str, Any]) -> dict[str, Any]:
    """tokenizer_config.json: chat template and special tokens by name."""
    tokens: list[str] = metadata["tokenizer.ggml.tokens"]
    return {
        "add_bos_token": metadata["tokenizer.ggml.add_bos_token"],
        "add_prefix_space": metadata["tokenizer.ggml.add_space_prefix"],
        "bos_token": tokens[metadata["tokenizer.ggml.bos_token_id"]],
        "chat_template": metadata["tokenizer.chat_template"],
        "clean_up_tokenization_spaces": False,
        "eos_token": tokens[metadata["tokenizer.ggml.eos_token_id"]],
        "model_max_length": metadata["llama.context_length"],
        "pad_token": tokens[metadata["tokenizer.ggml.padding_token_id"]],
        "tokenizer_class": "PreTrainedTokenizerFast",
        "unk_token": tokens[metadata["tokenizer.ggml.unknown_token_id"]],
    }


def model_config(metadata: dict[str, Any]) -> dict[str, Any]:
    """config.json: the architecture in Hugging Face's terms."""
    return {
        "architectures": ["LlamaForCausalLM"],
        "bos_token_id": metadata["tokenizer.ggml.bos_token_id"],
        "eos_token_id": metadata["tokenizer.ggml.eos_token_id"],
        "hidden_act": "silu",
        "hidden_size": metadata["llama.embedding_length"],
        "intermediate_size": metadata["llama.feed_forward_length"],
        "max_position_embeddings": metadata["llama.context_length"],
        "model_type": "llama",
        "num_attention_heads": metadata["llama.attention.head_count"],
        "num_hidden_layers": metadata["llama.block_count"],
        "num_key_value_heads": metadata["llama.attention.head_count_kv"],
        "rms_norm_eps": metadata["llama.attention.layer_norm_rms_epsilon"],
        "rope_theta": metadata["llama.rope.freq_base"],
        "tie_word_embeddings": True,
        "vocab_size": len(metadata["tokenizer.ggml.tokens"]),
    }


def generation_config(metadata: dict[str, Any]) -> dict[str, Any]:
    """generation_config.json: the special ids that generation needs."""
    return {
        "bos_token_id": metadata["tokenizer.ggml.bos_token_id"],
        "eos_token_id": metadata["tokenizer.ggml.eos_token_id"],
        "pad_token_id": metadata["tokenizer.ggml.padding_token_id"],
    }


def _write_weights(source: Path, folder: Path) -> None:
    """The library writes beside its input: give it a link in `folder`, and keep only the model."""
    link = folder / "weights.gguf"
    link.symlink_to(source.resolve())
    openvino_genai.LLMPipeline(str(link), "CPU", enable_save_ov_model=True)
    link.unlink()
    for stem in ("openvino_tokenizer", "openvino_detokenizer"):
        for suffix in (".xml", ".bin"):
            (folder / f"{stem}{suffix}").unlink(missing_ok=True)


def _write(target: Path, value: dict[str, Any]) -> None:
    text = json.dumps(value, ensure_ascii=False, indent=2)
    target.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    convert(Path(sys.argv[1]), Path(sys.argv[2]))

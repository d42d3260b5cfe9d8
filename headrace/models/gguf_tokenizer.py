"""The tokenizer of a GGUF file as Hugging Face's two JSON documents; byte-level BPE only.

Both depend on the metadata alone, byte for byte: the fingerprint is the same on every machine.
"""

from collections.abc import Mapping
from typing import Any

from headrace.models.pre_tokenizers import PRE_TOKENIZERS
from headrace.models.refusal import UnservableError

Metadata = Mapping[str, Any]

_CONTROL, _USER_DEFINED, _UNUSED = 3, 4, 5
"""Of GGUF's token types: special, added but ordinary text, and ids without a text."""

_SPECIAL_IDS = {
    "bos_token": "bos_token_id",
    "eos_token": "eos_token_id",
    "pad_token": "padding_token_id",
    "unk_token": "unknown_token_id",
}
"""Names in tokenizer_config.json and in GGUF."""

_NAMED_TEMPLATE = "tokenizer.chat_template."


def check_tokenizer(metadata: Metadata) -> None:
    """Raise UnservableError for a tokenizer that would have to be guessed, or none."""
    model = metadata.get("tokenizer.ggml.model")
    if model is None or "tokenizer.ggml.tokens" not in metadata:
        raise UnservableError("the file holds no tokenizer (tokenizer.ggml.tokens)")
    if model != "gpt2":
        raise UnservableError(f"tokenizer.ggml.model is {model!r}, only 'gpt2' (BPE) can be read")
    pre = metadata.get("tokenizer.ggml.pre")
    if pre not in PRE_TOKENIZERS:
        known = ", ".join(PRE_TOKENIZERS)
        raise UnservableError(f"tokenizer.ggml.pre is {pre!r}, unknown; known are {known}")
    tokens = metadata["tokenizer.ggml.tokens"]
    types = metadata.get("tokenizer.ggml.token_type", ())
    if len(types) != len(tokens):
        raise UnservableError(
            f"tokenizer.ggml.token_type has {len(types)} entries for {len(tokens)} tokens"
        )
    if not metadata.get("tokenizer.ggml.merges"):
        raise UnservableError("the tokenizer has no merges (tokenizer.ggml.merges)")
    if not metadata.get("tokenizer.chat_template"):
        raise UnservableError("the file has no chat template (tokenizer.chat_template)")
    if "tokenizer.ggml.eos_token_id" not in metadata:
        raise UnservableError("the file names no end token (tokenizer.ggml.eos_token_id)")
    _check_ids(metadata, len(tokens))


def _check_ids(metadata: Metadata, num_tokens: int) -> None:
    for name in (*_SPECIAL_IDS.values(), "eot_token_id"):
        token_id = metadata.get(f"tokenizer.ggml.{name}", 0)
        if not 0 <= token_id < num_tokens:
            raise UnservableError(
                f"tokenizer.ggml.{name} is {token_id}, the tokenizer has {num_tokens} tokens"
            )


def tokenizer_object(metadata: Metadata) -> dict[str, Any]:
    """tokenizer.json. Tokens of the kind `unused` have an id and are never written or said."""
    family = PRE_TOKENIZERS[metadata["tokenizer.ggml.pre"]]
    tokens: list[str] = metadata["tokenizer.ggml.tokens"]
    types: list[int] = metadata["tokenizer.ggml.token_type"]
    added = [
        _added_token(index, tokens[index], is_special=kind != _USER_DEFINED)
        for index, kind in enumerate(types)
        if kind in (_CONTROL, _USER_DEFINED)
    ]
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added,
        "normalizer": family.normalizer,
        "pre_tokenizer": family.pre_tokenizer,
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
            "ignore_merges": family.ignores_merges,
            "vocab": {
                token: index for index, token in enumerate(tokens) if types[index] != _UNUSED
            },
            "merges": metadata["tokenizer.ggml.merges"],
        },
    }


def _added_token(index: int, content: str, *, is_special: bool) -> dict[str, Any]:
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    return {"id": index, "content": content, **flags, "special": is_special}


def tokenizer_settings(metadata: Metadata) -> dict[str, Any]:
    """tokenizer_config.json: chat template and special tokens by name."""
    tokens: list[str] = metadata["tokenizer.ggml.tokens"]
    architecture = metadata["general.architecture"]
    settings = {
        "add_bos_token": metadata.get("tokenizer.ggml.add_bos_token", False),
        "chat_template": _chat_template(metadata),
        "clean_up_tokenization_spaces": False,
        "model_max_length": metadata[f"{architecture}.context_length"],
        "tokenizer_class": "PreTrainedTokenizerFast",
    }
    if "tokenizer.ggml.add_space_prefix" in metadata:
        settings["add_prefix_space"] = metadata["tokenizer.ggml.add_space_prefix"]
    for name, key in _SPECIAL_IDS.items():
        token_id = metadata.get(f"tokenizer.ggml.{key}")
        if token_id is not None:
            settings[name] = tokens[token_id]
    return dict(sorted(settings.items()))


def _chat_template(metadata: Metadata) -> str | list[dict[str, str]]:
    """The template; with those that have names, a list of all."""
    default: str = metadata["tokenizer.chat_template"]
    named = {
        key.removeprefix(_NAMED_TEMPLATE): value
        for key, value in metadata.items()
        if key.startswith(_NAMED_TEMPLATE)
    }
    if not named:
        return default
    both = {"default": default, **named}
    return [{"name": name, "template": text} for name, text in sorted(both.items())]

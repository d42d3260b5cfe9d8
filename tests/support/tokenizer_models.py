"""Small model directories for tests: tokenizers trained on a few sentences, and a template."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from headrace.models.directory import ModelDirectory, open_model_directory

CONTEXT_LENGTH = 256
SPECIAL_TOKENS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
MARK = "▁"
UNKNOWN = "<unk>"
TEMPLATE = (
    "{% for message in messages %}"
    "<|im_start|>{{ message.role }}{% if message.name %} ({{ message.name }}){% endif %}{{ '\n' }}"
    "{{ message.content }}<|im_end|>\n"
    "{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
_CORPUS = (
    "The water runs through the channel and turns the wheel.",
    "system user assistant: you are a helpful assistant. Hello, world! How are you today?",
    "def main(): print(1 < 2 and 3 > 2)  # <html></html> |im_start| im_end",
    "日本語の文 und Grüße, ça va? 😀😀 🌍",
) * 4


def train_tokenizer() -> dict[str, Any]:
    """The parsed tokenizer.json of a ByteLevel BPE with some merges and many broken characters."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=420,
        show_progress=False,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    tokenizer.train_from_iterator(_CORPUS, trainer)
    document: dict[str, Any] = json.loads(tokenizer.to_str())
    return document


def train_metaspace_tokenizer() -> dict[str, Any]:
    """A BPE in Llama's manner: a mark for the space, byte tokens for what no token says."""
    tokenizer = Tokenizer(models.BPE(unk_token=UNKNOWN, fuse_unk=True, byte_fallback=True))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Prepend(MARK), normalizers.Replace(" ", MARK)]
    )
    tokenizer.decoder = decoders.Sequence(
        [
            decoders.Replace(MARK, " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    special = [UNKNOWN, *SPECIAL_TOKENS]
    # Characters beyond ASCII are left to the byte tokens.
    ascii_only = [text for text in _CORPUS if text.isascii()]
    trainer = trainers.BpeTrainer(vocab_size=200, show_progress=False, special_tokens=special)
    tokenizer.train_from_iterator(ascii_only, trainer)
    document: dict[str, Any] = json.loads(tokenizer.to_str())
    vocab = document["model"]["vocab"]
    vocab.update({f"<0x{byte:02X}>": len(vocab) + byte for byte in range(256)})
    return document


def train_unigram_tokenizer() -> dict[str, Any]:
    """A Unigram in T5's manner: Metaspace before and after, no byte tokens."""
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=150,
        show_progress=False,
        special_tokens=[UNKNOWN, *SPECIAL_TOKENS],
        unk_token=UNKNOWN,
    )
    tokenizer.train_from_iterator(_CORPUS, trainer)
    document: dict[str, Any] = json.loads(tokenizer.to_str())
    return document


def write_model(
    folder: Path,
    document: dict[str, Any],
    *,
    template: str | None = TEMPLATE,
    more_templates: Mapping[str, str] | None = None,
    context_length: int = CONTEXT_LENGTH,
) -> ModelDirectory:
    """Write a model directory without weights, and open it."""
    folder.mkdir(parents=True, exist_ok=True)
    ids = {entry["content"]: entry["id"] for entry in document["added_tokens"]}
    size = len(document["model"]["vocab"]) + 8  # eight ids of padding have no token
    files = {
        "tokenizer.json": document,
        "tokenizer_config.json": {"bos_token": "<|im_start|>", "eos_token": "<|im_end|>"},
        "config.json": {"max_position_embeddings": context_length, "vocab_size": size},
        "generation_config.json": {"eos_token_id": ids["<|im_end|>"]},
    }
    for name, content in files.items():
        (folder / name).write_text(json.dumps(content), encoding="utf-8")
    if template is not None:
        (folder / "chat_template.jinja").write_text(template, encoding="utf-8")
    for name, source in (more_templates or {}).items():
        more = folder / "additional_chat_templates" / f"{name}.jinja"
        more.parent.mkdir(exist_ok=True)
        more.write_text(source, encoding="utf-8")
    return open_model_directory(folder)

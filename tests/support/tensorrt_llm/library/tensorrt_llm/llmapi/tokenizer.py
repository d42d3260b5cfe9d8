"""The tokenizer that the library wraps: `tokenizer` inside is what was loaded.

The real one wraps transformers; this one `tokenizers`, with the attributes that an adapter sees.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer


class TransformersTokenizer:
    """Texts and ids. `file` is the tokenizer.json that it was made of, if any."""

    def __init__(self, tokenizer: Any, eos_token_id: int | None, file: Path | None) -> None:
        self.tokenizer = tokenizer
        self.file = file
        self.eos_token_id = eos_token_id
        self.pad_token_id = eos_token_id

    @classmethod
    def from_pretrained(cls, directory: str | Path) -> "TransformersTokenizer":
        """Of a model's directory. Raises OSError, ValueError."""
        folder = Path(directory)
        file = folder / "tokenizer.json"
        if not file.is_file():
            raise OSError(f"{folder} holds no tokenizer.json")
        loaded = Tokenizer.from_file(str(file))
        return cls(loaded, _end_id(folder, loaded), file)

    @property
    def vocab_size(self) -> int:
        """Without added tokens counted twice."""
        size: int = self.tokenizer.get_vocab_size()
        return size

    def encode(self, text: str, *, add_special_tokens: bool = True) -> list[int]:
        """Ids of a text."""
        ids: list[int] = self.tokenizer.encode(text, add_special_tokens=add_special_tokens).ids
        return ids

    def encode_stop(self, text: str) -> list[int]:
        """Ids of a stop, without special tokens."""
        return self.encode(text, add_special_tokens=False)

    def decode(self, token_ids: Sequence[int], *, skip_special_tokens: bool = True) -> str:
        """The text of ids."""
        text: str = self.tokenizer.decode(list(token_ids), skip_special_tokens=skip_special_tokens)
        return text


def _end_id(folder: Path, tokenizer: Tokenizer) -> int | None:
    """The eos token by name; else the first of the configuration."""
    settings = _read(folder / "tokenizer_config.json")
    named = settings.get("eos_token")
    text = named.get("content") if isinstance(named, dict) else named
    found = tokenizer.token_to_id(text) if isinstance(text, str) else None
    if found is not None:
        return int(found)
    value = _read(folder / "config.json").get("eos_token_id")
    return value[0] if isinstance(value, list) else value


def _read(file: Path) -> dict[str, Any]:
    if not file.is_file():
        return {}
    document: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return document

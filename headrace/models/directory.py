"""A model directory in Hugging Face's layout: what every service must know of it before it starts.

Only JSON and text files are read, so that opening one costs milliseconds and no heavy import. The
fingerprint covers what decides which token ids a conversation becomes, and nothing else: two
directories with the same fingerprint tokenize alike, whatever their weights are.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeGuard

from headrace.runtime.errors import StartError

# Settings of tokenizer_config.json that change token ids or the text around them; the rest of that
# file (class names, paths of the training run) may differ between equal tokenizers.
_DECISIVE_SETTINGS = (
    "add_bos_token",
    "add_eos_token",
    "add_prefix_space",
    "added_tokens_decoder",
    "additional_special_tokens",
    "bos_token",
    "clean_up_tokenization_spaces",
    "eos_token",
    "pad_token",
    "unk_token",
)
_FINGERPRINT_BYTES = 16
# Names of chat templates.
DEFAULT = "default"
TOOL_USE = "tool_use"


@dataclass(frozen=True, slots=True)
class ModelDirectory:
    """What the files of a model say; `name` is the served name, counts are in tokens.

    `tokenizer_fingerprint` is 32 hexadecimal digits, equal on every machine with the same files.
    """

    path: Path
    name: str
    context_length: int
    end_token_ids: frozenset[int]
    vocabulary_size: int
    tokenizer_fingerprint: str


def open_model_directory(path: Path | str, name: str | None = None) -> ModelDirectory:
    """Read the directory at `path`; `name` is the served name, by default the folder's.

    Raises StartError, one sentence, for a file or an entry that is missing or malformed.
    """
    folder = Path(path).expanduser().absolute()
    if not folder.is_dir():
        raise StartError(f"model directory {folder} does not exist")
    config = read_json_object(folder / "config.json")
    text_config = config.get("text_config", config)
    if not isinstance(text_config, dict):
        raise StartError(f"{folder / 'config.json'}: text_config is not an object")
    return ModelDirectory(
        path=folder,
        name=name or folder.name,
        context_length=_positive(text_config, "max_position_embeddings", folder / "config.json"),
        end_token_ids=_end_token_ids(folder, text_config),
        vocabulary_size=_positive(text_config, "vocab_size", folder / "config.json"),
        tokenizer_fingerprint=tokenizer_fingerprint(folder),
    )


def read_chat_template(folder: Path) -> str | None:
    """The model's chat template for ordinary conversations; None where it has none.

    Raises StartError as `read_chat_templates` does.
    """
    return read_chat_templates(folder).get(DEFAULT)


def read_chat_templates(folder: Path) -> dict[str, str]:
    """The model's chat templates by name, as transformers reads them.

    `default` is chat_template.jinja; beside it are additional_chat_templates/NAME.jinja. Without
    the first, chat_template in tokenizer_config.json counts: a text, or a list of {name, template}.
    Raises StartError for a template that is no text.
    """
    file = folder / "chat_template.jinja"
    templates = {DEFAULT: _decoded(file)} if file.is_file() else _configured_templates(folder)
    for more in sorted((folder / "additional_chat_templates").glob("*.jinja")):
        templates[more.stem] = _decoded(more)
    return templates


def tokenizer_fingerprint(folder: Path) -> str:
    """BLAKE2b-16 in hexadecimal over tokenizer.json, chat templates and special-token settings.

    Each part is preceded by its length as 8 bytes, so that no two sets of parts run together.
    Raises StartError when tokenizer.json is missing or unreadable.
    """
    source = folder / "tokenizer_config.json"
    settings = read_json_object(source) if source.is_file() else {}
    decisive = {key: settings[key] for key in _DECISIVE_SETTINGS if key in settings}
    tokenizer = _read_bytes(folder / "tokenizer.json")
    templates = read_chat_templates(folder)
    parts = (
        tokenizer,
        templates.pop(DEFAULT, "").encode(),
        json.dumps(decisive, sort_keys=True, ensure_ascii=True, separators=(",", ":")).encode(),
        *(text.encode() for name in sorted(templates) for text in (name, templates[name])),
    )
    digest = hashlib.blake2b(digest_size=_FINGERPRINT_BYTES)
    for part in parts:
        digest.update(len(part).to_bytes(8, "little"))
        digest.update(part)
    return digest.hexdigest()


def read_json_object(source: Path) -> dict[str, Any]:
    """A file that holds one JSON object. Raises StartError, one sentence, for any other."""
    try:
        value = json.loads(_read_bytes(source))
    except ValueError as error:
        raise StartError(f"{source} is not valid JSON: {error}") from error
    if not isinstance(value, dict):
        raise StartError(f"{source} does not hold a JSON object")
    return value


def _configured_templates(folder: Path) -> dict[str, str]:
    source = folder / "tokenizer_config.json"
    value = read_json_object(source).get("chat_template") if source.is_file() else None
    if value is None:
        return {}
    named: dict[str, Any] = {DEFAULT: value}
    if isinstance(value, list):
        named = {item["name"]: item.get("template") for item in value if _is_named(item)}
    for name, template in named.items():
        if not isinstance(template, str):
            raise StartError(f"{source}: chat_template is not text: `{name}`")
    return named


def _decoded(file: Path) -> str:
    try:
        return _read_bytes(file).decode()
    except UnicodeDecodeError as error:
        raise StartError(f"{file} is not UTF-8 text: {error}") from error


def _end_token_ids(folder: Path, config: Mapping[str, Any]) -> frozenset[int]:
    """generation_config.json wins over config.json, as in Hugging Face's generate()."""
    source = folder / "generation_config.json"
    generation = read_json_object(source) if source.is_file() else {}
    value = generation.get("eos_token_id", config.get("eos_token_id"))
    ids = value if isinstance(value, list) else [value]
    if not ids or not all(_is_token_id(token_id) for token_id in ids):
        raise StartError(f"{folder}: no end token: eos_token_id is {json.dumps(value)}")
    return frozenset(ids)


def _is_token_id(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_named(item: object) -> bool:
    return isinstance(item, dict) and isinstance(item.get("name"), str)


def _positive(config: Mapping[str, Any], key: str, source: Path) -> int:
    value = config.get(key)
    if not _is_token_id(value) or value == 0:
        raise StartError(f"{source}: {key} must be a positive integer, is {json.dumps(value)}")
    return value


def _read_bytes(source: Path) -> bytes:
    try:
        return source.read_bytes()
    except FileNotFoundError as error:
        raise StartError(f"{source} is missing: {source.parent} is no model directory") from error
    except OSError as error:
        raise StartError(f"{source} cannot be read: {error.strerror}") from error

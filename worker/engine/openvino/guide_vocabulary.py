"""A model's tokenizer.json as guides are to read it: no text spells a special token.

llguidance encodes what a grammar forces, and where that holds `<|im_end|>`, in a value of an enum
for instance, the file's own rules make the end of the answer of it. Under names that nobody knows,
special tokens are reached by their ids alone, and their old names are spelled by ordinary tokens.
"""

import json
import secrets
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class GuideVocabulary:
    """`tokenizer_json` with unspellable special tokens, and the names that they have elsewhere."""

    tokenizer_json: str
    special_tokens: tuple[str, ...]


def guide_vocabulary(tokenizer_json: str) -> GuideVocabulary:
    """Rename the special tokens of a tokenizer.json, in the format of Hugging Face's library."""
    document = json.loads(tokenizer_json)
    special = [each for each in document.get("added_tokens") or () if each["special"]]
    secret = secrets.token_hex(16)
    names = {each["content"]: f"{secret}-{each['id']}" for each in special}
    for each in special:
        each["content"] = names[each["content"]]
    model = document["model"]
    model["vocab"] = _renamed(model["vocab"], names)
    if model.get("unk_token") in names:
        model["unk_token"] = names[model["unk_token"]]
    return GuideVocabulary(json.dumps(document, ensure_ascii=False), tuple(names))


def _renamed(vocabulary: Any, names: dict[str, str]) -> Any:
    """The model's pieces, by their ids or, of a unigram model, in a list with their scores."""
    if isinstance(vocabulary, dict):
        return {names.get(piece, piece): token_id for piece, token_id in vocabulary.items()}
    return [[names.get(piece, piece), score] for piece, score in vocabulary]

"""What the worker reads of a model: sizes and end tokens, from its files or the switches."""

import json
from pathlib import Path
from typing import Any

from tensorrt_llm.double.switches import ModelFacts, Switches
from tensorrt_llm.double.word_tokenizer import WordTokenizer
from tensorrt_llm.llmapi.tokenizer import TransformersTokenizer


def read_facts(model: str, switches: Switches) -> ModelFacts:
    """Raises OSError where there is no such model."""
    if switches.model is not None:
        return switches.model
    folder = Path(model)
    file = folder / "config.json"
    if not file.is_file():
        raise OSError(
            f"{model} is not a local folder with a config.json, nor a model that is known"
        )
    config = json.loads(file.read_text(encoding="utf-8"))
    text = config.get("text_config", config)
    generation = folder / "generation_config.json"
    ends = text.get("eos_token_id")
    if generation.is_file():
        ends = json.loads(generation.read_text(encoding="utf-8")).get("eos_token_id", ends)
    return ModelFacts(
        vocabulary_size=text["vocab_size"],
        end_token_ids=tuple(ends if isinstance(ends, list) else [ends]),
        max_seq_len=text["max_position_embeddings"],
    )


def load_tokenizer(model: str, given: Any, switches: Switches) -> TransformersTokenizer | None:
    """Of an object, a path or the model; None where there is none: the library only warns."""
    if isinstance(given, TransformersTokenizer):
        return given
    if given is None or isinstance(given, str | Path):
        try:
            return TransformersTokenizer.from_pretrained(model if given is None else given)
        except OSError:
            if switches.model is None or not switches.model.end_token_ids:
                return None
            facts = switches.model
            words = WordTokenizer(facts.vocabulary_size, facts.end_token_ids)
            return TransformersTokenizer(words, facts.end_token_ids[0], None)
    return TransformersTokenizer(given, getattr(given, "eos_token_id", None), None)

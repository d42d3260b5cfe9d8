"""Inputs of generate_async: a text, ids, or a mapping with one of them."""

from typing import Any

from tensorrt_llm.llmapi.tokenizer import TransformersTokenizer
from tensorrt_llm.sampling_params import SamplingParams

_KEYS = frozenset(("prompt", "prompt_token_ids"))


def parsed_inputs(
    inputs: Any, params: SamplingParams, tokenizer: TransformersTokenizer | None
) -> tuple[list[int], str | None]:
    """Ids, and the text where it was given. Raises TypeError, ValueError, IndexError (no ids)."""
    if isinstance(inputs, str):
        inputs = {"prompt": inputs}
    elif isinstance(inputs, list):
        inputs = {"prompt_token_ids": inputs}
    if not isinstance(inputs, dict):
        raise TypeError(f"The inputs must be type str or list of int, but got {type(inputs)}")
    unknown = inputs.keys() - _KEYS
    if unknown:
        raise NotImplementedError(f"the double takes no {', '.join(sorted(unknown))}")
    if "prompt_token_ids" in inputs:
        return _checked(inputs["prompt_token_ids"]), inputs.get("prompt")
    text = inputs.get("prompt")
    if not isinstance(text, str):
        raise TypeError("The inputs must hold prompt or prompt_token_ids")
    if tokenizer is None:
        raise ValueError("tokenizer is required to tokenize string prompt")
    ids = tokenizer.encode(text, add_special_tokens=params.add_special_tokens)
    if params.truncate_prompt_tokens is not None:
        ids = ids[-params.truncate_prompt_tokens :]
    return ids, text


def _checked(ids: Any) -> list[int]:
    if not isinstance(ids, list):
        raise TypeError(f"prompt_token_ids must be a list of int, but got {type(ids)}")
    # The library looks at the first id without asking whether there is one.
    first = ids[0]
    for token_id in (first, *ids):
        if not isinstance(token_id, int):
            raise TypeError(f"prompt_token_ids must hold int, but got {type(token_id)}")
    return ids

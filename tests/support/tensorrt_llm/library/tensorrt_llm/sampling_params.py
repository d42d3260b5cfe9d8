"""SamplingParams and GuidedDecodingParams: keyword-only, with slots, validated once.

Source: the contract's section 4. Setting an attribute later passes without validation.
"""

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from tensorrt_llm.double.machine import current

if TYPE_CHECKING:
    from tensorrt_llm.llmapi.tokenizer import TransformersTokenizer

GREEDY_N_VARIABLE = "TLLM_ALLOW_N_GREEDY_DECODING"
_TRUTHS = ("1", "true", "True", "TRUE")


@dataclass(slots=True, kw_only=True)
class GuidedDecodingParams:
    """One guide. Raises ValueError for more than one."""

    json: Any = None
    regex: str | None = None
    grammar: str | None = None
    json_object: bool = False
    structural_tag: str | None = None

    def __post_init__(self) -> None:
        guides = (self.json, self.regex, self.grammar, self.structural_tag)
        if sum(guide is not None for guide in guides) + bool(self.json_object) > 1:
            raise ValueError(f"Only one guide can be used for a request, but got {self}")
        if isinstance(self.json, type) and issubclass(self.json, BaseModel):
            self.json = self.json.model_json_schema()
        if isinstance(self.json, dict):
            self.json = json.dumps(self.json)


@dataclass(slots=True, kw_only=True)
class SamplingParams:
    """How to generate; defaults are the library's, `max_tokens` 32 among them."""

    end_id: int | None = None
    pad_id: int | None = None
    max_tokens: int | None = 32
    bad: str | list[str] | None = None
    bad_token_ids: list[int] | None = None
    _bad_word_ids: list[list[int]] | None = field(default=None, init=False, repr=False)
    stop: str | list[str] | None = None
    stop_token_ids: list[int] | None = None
    include_stop_str_in_output: bool = False
    _stop_word_ids: list[list[int]] | None = field(default=None, init=False, repr=False)

    embedding_bias: Any = None
    logits_processor: Any = None

    n: int = 1
    best_of: int | None = None
    use_beam_search: bool = False
    top_k: int | None = None
    top_p: float | None = None
    top_p_min: float | None = None
    top_p_reset_ids: int | None = None
    top_p_decay: float | None = None
    seed: int | None = None
    temperature: float | None = None
    min_tokens: int | None = None
    beam_search_diversity_rate: float | None = None
    repetition_penalty: float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    length_penalty: float | None = None
    early_stopping: int | None = None
    no_repeat_ngram_size: int | None = None
    min_p: float | None = None

    logprobs: int | None = None
    prompt_logprobs: int | None = None
    return_perf_metrics: bool = False
    guided_decoding: GuidedDecodingParams | None = None

    ignore_eos: bool = False
    detokenize: bool = True
    add_special_tokens: bool = True
    truncate_prompt_tokens: int | None = None
    skip_special_tokens: bool = True
    spaces_between_special_tokens: bool = True
    _stream_interval: int | None = field(default=None, init=False, repr=False)

    def __post_init__(self) -> None:
        if self.pad_id is None:
            self.pad_id = self.end_id
        self.best_of = self.best_of or self.n
        if current().switches.validates_sampling:
            self._validate()
        if self.logprobs is not None:
            self.logprobs = int(self.logprobs)
        self.prompt_logprobs = int(self.prompt_logprobs) if self.prompt_logprobs else None

    @property
    def _greedy_decoding(self) -> bool:
        unset = self.temperature is None and self.top_p is None and self.top_k is None
        no_beams = not self.use_beam_search
        return no_beams and (unset or 0 in (self.temperature, self.top_p) or self.top_k == 1)

    @property
    def _asked_logprobs(self) -> int | None:
        """None: none; 0 means that too, in versions that ask for its truth."""
        if not self.logprobs and current().switches.zero_logprobs_is_none:
            return None
        return self.logprobs

    def _validate(self) -> None:
        """Raises ValueError."""
        if self.n < 1:
            raise ValueError(f"require n >= 1, got n={self.n}")
        if self.best_of is not None and self.best_of < self.n:
            raise ValueError(f"require best_of >= n, got best_of={self.best_of}, n={self.n}")
        if self.top_p is not None and not 0 <= self.top_p <= 1:
            raise ValueError(f"require 0 <= top_p <= 1, got top_p={self.top_p}")
        if self.top_k is not None and self.top_k < 0:
            raise ValueError(f"require top_k >= 0, got top_k={self.top_k}")
        if self.temperature is not None and self.temperature < 0:
            raise ValueError(f"require temperature >= 0, got temperature={self.temperature}")
        allowed = os.environ.get(GREEDY_N_VARIABLE) in _TRUTHS
        if (self.best_of or 1) > 1 and self._greedy_decoding and not allowed:
            raise ValueError(
                f"Greedy decoding in the LLM API does not allow multiple returns; got "
                f"best_of={self.best_of}, n={self.n}. Set {GREEDY_N_VARIABLE}=1 to allow it"
            )
        if self.truncate_prompt_tokens is not None and self.truncate_prompt_tokens < 1:
            raise ValueError(
                f"require truncate_prompt_tokens >= 1, got {self.truncate_prompt_tokens}"
            )

    def _setup(self, tokenizer: "TransformersTokenizer") -> None:
        """Fill in end, pad and the ids of stop and bad texts, where the caller set no end."""
        if self.end_id is None:
            self.end_id = tokenizer.eos_token_id
            self.pad_id = tokenizer.pad_token_id
        if self.pad_id is None:
            self.pad_id = self.end_id
        self._stop_word_ids = [tokenizer.encode_stop(text) for text in _texts(self.stop)]
        self._bad_word_ids = [tokenizer.encode_stop(text) for text in _texts(self.bad)]

    def _get_stop_strings(self) -> list[str]:
        return _texts(self.stop)

    def _get_stop_reasons_and_words(self) -> list[tuple[int | str, list[int]]]:
        """Reason and ids of each stop. Raises RuntimeError for texts that were not encoded."""
        reasons: list[tuple[int | str, list[int]]] = []
        texts = _texts(self.stop)
        if texts and self._stop_word_ids is None:
            raise RuntimeError(f"SamplingParams.stop {self.stop!r} is not processed by tokenizer")
        reasons += [(token_id, [token_id]) for token_id in self.stop_token_ids or ()]
        reasons += zip(texts, self._stop_word_ids or (), strict=False)
        return reasons

    def _get_bad_words(self) -> list[list[int]]:
        if self.bad and self._bad_word_ids is None:
            raise RuntimeError(f"SamplingParams.bad {self.bad!r} is not processed by tokenizer")
        single = [[token_id] for token_id in self.bad_token_ids or ()]
        return [*single, *(self._bad_word_ids or ())]


def _texts(value: str | Sequence[str] | None) -> list[str]:
    if value is None:
        return []
    return [value] if isinstance(value, str) else list(value)

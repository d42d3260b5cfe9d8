"""Guides in the worker: compiled by llguidance over the model's own tokenizer.

Both backends are emulated by it. `structural_tag` is xgrammar's alone (contract, section 4). Every
failure is the text behind "Guided decoding error: ", and one request's.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
from llguidance import LLMatcher, LLTokenizer, StructTag
from llguidance.gbnf_to_lark import GbnfToLarkError, gbnf_to_lark

Backend: TypeAlias = Literal["xgrammar", "llguidance"]
_CLOSING = ('"', "}", "]", '"}', "</", ">")
_SETTLED = {"item_separator": ", ", "key_separator": ": ", "whitespace_flexible": False}


class GuideError(Exception):
    """A guide that cannot be compiled or followed."""


class Guides:
    """Makes matchers; used by the worker's thread only. `tokenizer_file` is a tokenizer.json."""

    def __init__(
        self, backend: Backend, tokenizer_file: Path | None, vocabulary_size: int, end_id: int
    ) -> None:
        if tokenizer_file is None:
            raise GuideError("the tokenizer was not loaded: guided decoding has no vocabulary")
        text = tokenizer_file.read_text(encoding="utf-8")
        self._backend = backend
        self._end_id = end_id
        self._tokenizer = LLTokenizer(text, n_vocab=vocabulary_size, eos_token=end_id)
        self.closing = self._closing_ids(vocabulary_size)

    def begin(self, params: Any) -> "Matcher":
        """A matcher at the start of a GuidedDecodingParams. Raises GuideError."""
        try:
            matcher = LLMatcher(self._tokenizer, self._grammar(params), log_level=0)
        except (ValueError, RecursionError, GbnfToLarkError) as error:
            raise GuideError(str(error)) from error
        if matcher.is_error():
            raise GuideError(matcher.get_error().splitlines()[0])
        return Matcher(matcher, self._end_id)

    def _closing_ids(self, size: int) -> frozenset[int]:
        ids = {i for i in range(size) if self._tokenizer.decode_str([i]).startswith(_CLOSING)}
        return frozenset((*ids, self._end_id))

    def _grammar(self, params: Any) -> str:
        if params.json_object:
            return _json_grammar({"type": "object"})
        if params.json is not None:
            return _json_grammar(json.loads(params.json))
        if params.regex is not None:
            return str(LLMatcher.grammar_from_regex(params.regex))
        if params.grammar is not None:
            lark = gbnf_to_lark(params.grammar) if self._backend == "xgrammar" else params.grammar
            return str(LLMatcher.grammar_from_lark(lark))
        return self._structural_tag(params.structural_tag)

    def _structural_tag(self, text: str) -> str:
        if self._backend != "xgrammar":
            raise GuideError(f"guide type structural_tag is not supported by {self._backend}")
        document = json.loads(text)
        try:
            triggers = document["triggers"]
            tags = [
                StructTag(
                    trigger=next(t for t in triggers if item["begin"].startswith(t)),
                    begin=item["begin"],
                    grammar={**item["schema"], "x-guidance": _SETTLED},
                    end=item["end"],
                )
                for item in document["structures"]
            ]
            return StructTag.to_grammar(tags, assume_special=False)
        except (KeyError, TypeError, StopIteration, AssertionError) as error:
            raise GuideError(f"invalid structural tag: {error!r}") from error


class Matcher:
    """One output's place in its guide."""

    def __init__(self, matcher: LLMatcher, end_id: int) -> None:
        self._matcher = matcher
        self._end_id = end_id

    def copy(self) -> "Matcher":
        """For another output."""
        return Matcher(self._matcher.deep_copy(), self._end_id)

    def allowed(self) -> list[int]:
        """Ids that may come next; behind the end only the end. Raises GuideError."""
        if self._matcher.is_stopped():
            return [self._end_id]
        bits = np.unpackbits(
            np.frombuffer(self._matcher.compute_bitmask(), np.uint8), bitorder="little"
        )
        if self._matcher.is_error():
            raise GuideError(self._matcher.get_error().splitlines()[0])
        ids: list[int] = np.flatnonzero(bits).tolist()
        return ids or [self._end_id]

    def consume(self, token_ids: Sequence[int]) -> None:
        """Go on behind these."""
        if not self._matcher.is_stopped():
            self._matcher.consume_tokens(list(token_ids))


def _json_grammar(schema: object) -> str:
    if isinstance(schema, dict):
        schema = {**schema, "x-guidance": _SETTLED}
    return json.dumps({"grammars": [{"json_schema": schema}]})

"""Compiles guides for one model's vocabulary, within bounds, and keeps what it compiled.

What llguidance cannot express it names, and so does the refusal. Its own limits bound the size of a
grammar and the work of a step; the first mask, which may take longest, is computed here, so that
it costs no step of the model.
"""

import threading
from collections import OrderedDict
from collections.abc import Collection, Sequence

from llguidance import LLMatcher, LLParserLimits, LLTokenizer

from headrace.common.v1 import errors_pb2
from headrace.rpc.errors import ServiceError
from headrace.runtime.deep_stack import on_deep_stack
from worker.engine.openvino.guide_grammar import (
    grammar_of,
    in_words,
    tag_texts,
    unusable_guide,
)
from worker.engine.openvino.guide_matcher import GuideMatcher
from worker.engine.openvino.guide_vocabulary import guide_vocabulary
from worker.engine.seam import Guide

_KEPT_GUIDES = 64
_KEPT_CHARACTERS = 2 * 1024 * 1024  # of their texts; compiled they take several times as much
# Of the lexer, five times the usual: regular expressions with nested counts need it behind some
# tokens. The slowest masks then take about 25 ms, as long as a step of the model.
_STEP_FUEL = 1_000_000


class GuideCompiler:
    """Makes matchers; `compile` may be called on several threads.

    `tokenizer_json` is the text of the model's tokenizer.json; `end_token_ids` are its own end
    tokens, at least one; `max_bytes` bounds a guide's text.
    """

    def __init__(
        self,
        tokenizer_json: str,
        end_token_ids: Collection[int],
        vocabulary_size: int,
        *,
        max_bytes: int,
    ) -> None:
        # The file may name another end token than the one that ends this model's answers.
        self._end_token_ids = sorted(end_token_ids)
        self._vocabulary_size = vocabulary_size
        self._max_bytes = max_bytes
        end = self._end_token_ids[0]
        vocabulary = guide_vocabulary(tokenizer_json)
        self._special_tokens = vocabulary.special_tokens
        self._tokenizer = LLTokenizer(
            vocabulary.tokenizer_json, n_vocab=vocabulary_size, eos_token=end
        )
        self._limits = LLParserLimits(step_lexer_fuel=_STEP_FUEL)
        self._kept: OrderedDict[Guide, GuideMatcher] = OrderedDict()
        self._num_kept_characters = 0
        self._lock = threading.Lock()

    def check_size(self, guide: Guide) -> None:
        """Raise ServiceError for a text that is too long."""
        size = len(guide.text.encode())
        if size > self._max_bytes:
            raise ServiceError(
                errors_pb2.ERROR_REASON_INVALID_REQUEST,
                f"{guide.param} has {size} bytes; at most {self._max_bytes} are allowed.",
                guide.param,
            )

    def compile(self, guide: Guide, output_prefix: Sequence[int]) -> GuideMatcher:
        """A matcher behind `output_prefix`; takes up to seconds, and leaves the GIL free.

        Raises ServiceError: the guide cannot be followed, or the prefix does not follow it.
        """
        matcher = self._begin(guide)
        if output_prefix and not matcher.consume(output_prefix):
            raise ServiceError(
                errors_pb2.ERROR_REASON_INVALID_REQUEST,
                f"output_prefix_token_ids does not follow {guide.param}.",
                "output_prefix_token_ids",
            )
        return matcher

    def is_kept(self, guide: Guide) -> bool:
        """Whether it need not be compiled again."""
        return guide in self._kept

    def _begin(self, guide: Guide) -> GuideMatcher:
        with self._lock:
            kept = self._kept.get(guide)
            if kept is not None:
                self._kept.move_to_end(guide)
                return kept.copy()
        # Chains of references recurse as deep as they are long: a small stack ends the process.
        matcher = on_deep_stack(self._compiled, guide)
        with self._lock:
            self._keep(guide, matcher)
            return matcher.copy()

    def _keep(self, guide: Guide, matcher: GuideMatcher) -> None:
        """Keep it, and as many of the last as there is room for."""
        if guide not in self._kept:
            self._num_kept_characters += len(guide.text)
        self._kept[guide] = matcher
        while len(self._kept) > 1 and (
            len(self._kept) > _KEPT_GUIDES or self._num_kept_characters > _KEPT_CHARACTERS
        ):
            oldest, _ = self._kept.popitem(last=False)
            self._num_kept_characters -= len(oldest.text)

    def _compiled(self, guide: Guide) -> GuideMatcher:
        grammar = grammar_of(guide)
        self._check_tags(guide)
        matcher = GuideMatcher(
            LLMatcher(self._tokenizer, grammar, log_level=0, limits=self._limits),
            self._end_token_ids,
            self._vocabulary_size,
        )
        if not matcher.problem:
            matcher.allowed()
        if matcher.problem:
            raise unusable_guide(guide, in_words(matcher.problem))
        return matcher

    def _check_tags(self, guide: Guide) -> None:
        """Tags are found in the text of an answer, of which special tokens are no part."""
        for text in tag_texts(guide):
            for named in self._special_tokens:
                if named in text:
                    raise unusable_guide(
                        guide, f"{text!r} holds the special token {named}, which no text holds"
                    )

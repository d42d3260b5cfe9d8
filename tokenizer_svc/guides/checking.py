"""Whether llguidance can follow a guide, told before anything is generated.

Checks may take a second for the largest schemas and leave the interpreter lock free. Guides that
passed are remembered: a conversation's turns come with the same functions.
"""

import threading
from collections import OrderedDict
from hashlib import blake2b

from llguidance import LLMatcher, LLParserLimits

from headrace.runtime.deep_stack import on_deep_stack
from headrace.worker.v1.generation_pb2 import Guide
from tokenizer_svc.guides.answers import (
    AskedAnswer,
    answer_guide,
    function_guide,
    unusable_function,
)
from tokenizer_svc.guides.content import json_schema, refused
from tokenizer_svc.guides.grammar import Grammar

_REMEMBERED = 1024
_MOST_CHARACTERS = 300
# With this sentence llguidance begins to tell of options of its own, which no caller can set.
_OPTION_HINT = " Enable '"
_SCHEMA_PROBLEM = "failed to compile JSON schema: "


class GuideChecker:
    """Makes guides and checks them; may be used on several threads."""

    def __init__(self) -> None:
        self._passed: OrderedDict[bytes, None] = OrderedDict()
        self._lock = threading.Lock()

    def guide(self, asked: AskedAnswer) -> Guide | None:
        """The answer's guide; None where nothing is restricted.

        Raises ServiceError, naming the function or the content guide that cannot be followed, and
        the keyword.
        """
        guide = answer_guide(asked)
        if guide is None:
            return None
        problem = self._problem(guide)
        if problem:
            raise self._blamed(asked, problem)
        return guide

    def _blamed(self, asked: AskedAnswer, problem: str) -> Exception:
        for tool in asked.allowed_tools:
            own_problem = self._problem(function_guide(asked, tool))
            if own_problem:
                return unusable_function(tool, own_problem)
        return refused(problem)

    def _problem(self, guide: Guide) -> str:
        """What llguidance says against it; empty for nothing."""
        key = blake2b(guide.SerializeToString(deterministic=True), digest_size=16).digest()
        with self._lock:
            if key in self._passed:
                self._passed.move_to_end(key)
                return ""
        grammar = _grammar_of(guide)
        if grammar is None:
            return ""
        problem = _in_words(on_deep_stack(_problem_of, grammar))
        if not problem:
            with self._lock:
                self._passed[key] = None
                if len(self._passed) > _REMEMBERED:
                    self._passed.popitem(last=False)
        return problem


def _problem_of(grammar: str) -> str:
    return str(LLMatcher.validate_grammar(grammar, limits=LLParserLimits()))


def _grammar_of(guide: Guide) -> str | None:
    """What llguidance is to check; None where nothing can be wrong or the worker says it."""
    match guide.WhichOneof("kind"):
        case "grammar":
            return LLMatcher.grammar_from_lark(guide.grammar)
        case "json_schema":
            grammar = Grammar({})
            root = grammar.json(json_schema(guide.json_schema))
            return LLMatcher.grammar_from_lark(grammar.beginning_with(root))
        case "regex":
            return LLMatcher.grammar_from_regex(guide.regex)
        case _:
            return None


def _in_words(problem: str) -> str:
    """The first line, and of that what is said of the schema."""
    if problem.startswith("panic"):
        return "it is too complex"
    first, *others = problem.partition(_OPTION_HINT)[0].splitlines() or [""]
    reason = next((line for line in others if line.startswith("error: ")), "")
    text = f"{first.rpartition(_SCHEMA_PROBLEM)[2]} {reason}".rstrip(" .:")
    half = _MOST_CHARACTERS // 2
    return text if len(text) <= _MOST_CHARACTERS else f"{text[:half]} … {text[-half:]}"

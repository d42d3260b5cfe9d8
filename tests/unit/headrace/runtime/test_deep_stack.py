"""Work on a deep stack: its result, its failure, and the depth."""

import threading

import pytest
from llguidance import LLMatcher

from headrace.runtime.deep_stack import on_deep_stack


def test_results_and_failures_come_back() -> None:
    """The caller gets what the job returned or raised."""
    assert on_deep_stack(divmod, 7, 2) == (3, 1)
    with pytest.raises(ZeroDivisionError):
        on_deep_stack(divmod, 7, 0)


def test_other_threads_keep_their_stacks() -> None:
    """The size is the process's setting, and is put back."""
    before = threading.stack_size()
    on_deep_stack(int)

    assert threading.stack_size() == before


def test_a_library_may_recurse_deeply() -> None:
    """A grammar of 6,000 rules in a row uses up a usual stack, which would end the process."""
    rules = "".join(f"a{number}: a{number + 1}\n" for number in range(6000))
    grammar = LLMatcher.grammar_from_lark(f'start: a0\n{rules}a6000: "x"\n')

    assert on_deep_stack(LLMatcher.validate_grammar, grammar) == ""

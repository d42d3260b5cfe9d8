"""Jinja's immutable sandbox as Hugging Face's chat templates use it, with a budget for each render.

The budget is of the rendering thread: `begin` sets it, and everything that the template computes is
checked against it. Compiling computes too (constant expressions), so it needs one as well.
"""

import threading
from collections.abc import Callable, Iterable
from functools import wraps
from typing import Any

from jinja2 import nodes, pass_context
from jinja2.ext import Extension, LoopControlExtension
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from tokenizer_svc import template_guards as guards
from tokenizer_svc.template_budget import RenderBounds, RenderBudget
from tokenizer_svc.template_rewriting import CONCAT, MEASURED, SLICED, TICK, rewritten

Filter = Callable[..., Any]
_BINOP_GUARDS: dict[str, guards.Guard] = {
    "%": guards.check_printf,
    "*": guards.check_product,
    "**": guards.check_power,
    "+": guards.check_sum,
}

# What compiled loops and blocks add to every call.
_JINJA_ARGUMENTS = frozenset({"_loop_vars", "_block_vars"})


class GenerationTag(Extension):
    """`{% generation %}…{% endgeneration %}`: marks what the assistant says, for training."""

    tags = {"generation"}  # noqa: RUF012 (Jinja declares it as a mutable class attribute)

    def parse(self, parser: Parser) -> nodes.Node:
        """The body, in a scope of its own."""
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.Scope(body, lineno=line)


class BoundedEnvironment(ImmutableSandboxedEnvironment):
    """The sandbox. Nothing may be compiled or rendered on a thread before `begin`."""

    intercepted_binops = frozenset(_BINOP_GUARDS)

    def __init__(self) -> None:
        super().__init__(
            trim_blocks=True, lstrip_blocks=True, extensions=[LoopControlExtension, GenerationTag]
        )
        self._local = threading.local()
        self.finalize = self._finalized
        self.concat = self._concatenated  # type: ignore[method-assign] # where Jinja looks
        del self.globals["lipsum"]
        for name in guards.REMOVED_FILTERS:
            del self.filters[name]

    @property
    def budget(self) -> RenderBudget:
        """The budget of this thread's render."""
        budget: RenderBudget = self._local.budget
        return budget

    def begin(self, bounds: RenderBounds) -> None:
        """Give this thread a new budget."""
        self._local.budget = RenderBudget(bounds)

    def end(self) -> None:
        """Drop this thread's budget and what it refers to."""
        del self._local.budget

    def guard_filters(self) -> None:
        """Put guards around all filters; called once, when all are there."""
        self.filters = {name: self._guarded(name, run) for name, run in self.filters.items()}
        # With a context, since Jinja computes other filters of constants while compiling.
        for name, run in (
            (TICK, self._ticked),
            (CONCAT, self._joined),
            (MEASURED, self._measured),
            (SLICED, self._sliced),
        ):
            self.filters[name] = _without_context(run)

    def call(self, context: Any, obj: Any, /, *args: Any, **kwargs: Any) -> Any:
        """Jinja's hook for calls: time, the size of the result, its memory."""
        budget = self.budget
        budget.tick()
        given = {name: value for name, value in kwargs.items() if name not in _JINJA_ARGUMENTS}
        is_new = guards.check_method(budget, obj, args, given)
        result = super().call(context, obj, *args, **kwargs)
        if is_new and isinstance(result, list | tuple):
            budget.spend(budget.size(result))  # of a text that was split, the parts
        return budget.charge(result) if is_new else result

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        """Jinja's hook for operators: the size of the result, its memory."""
        budget = self.budget
        if operator == "%" and isinstance(right, tuple):
            guards.check_printf(budget, left, *right)
        else:
            _BINOP_GUARDS[operator](budget, left, right)
        result = super().call_binop(context, operator, left, right)
        if operator == "+" and isinstance(result, list | tuple):
            return budget.share(result, budget.size(left) + budget.size(right))
        return budget.charge(result)

    def wrap_str_format(self, value: Any) -> Callable[..., str] | None:
        """Jinja's hook for `str.format`: the size of the result."""
        run = super().wrap_str_format(value)
        if run is None:
            return None

        @wraps(run)
        def guarded(*args: Any, **kwargs: Any) -> str:
            guards.check_format(self.budget, value.__self__, *args, **kwargs)
            return run(*args, **kwargs)

        return guarded

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        return rewritten(super()._parse(source, name, filename))

    def _guarded(self, name: str, run: Filter) -> Filter:
        guard = guards.FILTER_GUARDS.get(name)
        is_lazy = name in guards.LAZY_FILTERS
        is_passing = name in guards.PASSING_FILTERS
        # Jinja's own first argument (context or environment), where the filter takes one.
        skipped = 1 if hasattr(run, "jinja_pass_arg") else 0

        @wraps(run)
        def guarded(*args: Any, **kwargs: Any) -> Any:
            budget = self.budget
            budget.tick()
            if name == "list":
                return budget.collected(args[skipped])
            if guard is not None:
                guard(budget, *args[skipped:], **kwargs)
            if is_lazy and args[skipped]:
                args = (*args[:skipped], budget.ticking(args[skipped]), *args[skipped + 1 :])
            result = run(*args, **kwargs)
            return result if is_passing else budget.charge(result)

        return guarded

    def _ticked(self, value: Any) -> Any:
        self.budget.tick()
        return value

    def _measured(self, value: Any) -> Any:
        return self.budget.charge(value)

    def _sliced(self, value: Any, *bounds: Any) -> Any:
        return self.budget.charge(value[slice(*bounds)])

    def _joined(self, parts: list[Any]) -> str:
        return self._concatenated(map(self._text, parts))

    def _text(self, value: object) -> str:
        self._finalized(value)
        return str(value)

    def _finalized(self, value: Any) -> Any:
        budget = self.budget
        budget.tick()
        if not isinstance(value, str):
            budget.require(budget.size(value))
        return value

    def _concatenated(self, parts: Iterable[str]) -> str:
        budget = self.budget
        texts = list(parts)
        budget.require(sum(map(len, texts)))
        return budget.charge("".join(texts))


def _without_context(run: Filter) -> Filter:
    @pass_context
    def with_context(_: Any, /, *args: Any) -> Any:
        return run(*args)

    return with_context

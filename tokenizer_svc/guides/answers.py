"""The guide of a whole answer, from what was asked of its content and calls: pure.

An answer is thoughts, where the model has some, and behind them content, calls, or text with calls
at its end. The guide is in the markup of the output format, and no text in it can be taken for
something else than it was allowed as.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from headrace.common.v1 import errors_pb2
from headrace.rpc.errors import ServiceError
from headrace.tokenizer.v1.render_pb2 import ToolChoice
from headrace.worker.v1.generation_pb2 import Guide
from tokenizer_svc.formats.call_grammar import (
    CallGrammar,
    GuidedFunction,
    UnwritableFunctionError,
    one_of,
)
from tokenizer_svc.formats.catalog import OutputFormat
from tokenizer_svc.formats.seam import ReasoningFormat
from tokenizer_svc.guides.content import Surroundings, content, free_text, text_up_to
from tokenizer_svc.guides.grammar import Grammar
from tokenizer_svc.guides.schemas import ANY_OBJECT, Bounds, arguments_schema
from tokenizer_svc.lark_patterns import escaped
from tokenizer_svc.tool_mapping import ToolSpec

MOST_CALLS = 16
"""Calls in one guided answer: a small model that may add another one seldom stops."""


@dataclass(frozen=True, slots=True)
class AskedAnswer:
    """What an answer may be, and how it is written.

    `begins_in_reasoning`: the prompt has opened the thoughts. `special_ids`: ids of the model's
    special tokens by their text. `context_length`: of the model, in tokens.
    """

    output_format: OutputFormat
    tools: Sequence[ToolSpec]
    choice: ToolChoice
    content_guide: Guide | None
    begins_in_reasoning: bool
    special_ids: Mapping[str, int]
    context_length: int

    @property
    def allowed_tools(self) -> Sequence[ToolSpec]:
        """Those that may be called."""
        names = self.choice.allowed_names
        return [tool for tool in self.tools if not names or tool.name in names]


def answer_guide(asked: AskedAnswer) -> Guide | None:
    """The guide; None where nothing is restricted.

    Raises ServiceError, naming the parameter and what of it cannot be followed. What llguidance
    cannot follow shows when the guide is checked.
    """
    if not _is_restricted(asked):
        return None
    if asked.content_guide is not None and not asked.tools and asked.output_format.thoughts is None:
        return asked.content_guide
    grammar = Grammar(asked.special_ids)
    answer = _answer(asked, grammar)
    thoughts = asked.output_format.thoughts
    if thoughts is not None:
        answer = f"{_thoughts(thoughts, asked.begins_in_reasoning, grammar)} {answer}"
    return Guide(grammar=grammar.beginning_with(answer))


def function_guide(asked: AskedAnswer, tool: ToolSpec) -> Guide:
    """The guide of an answer that calls this function, to find out whose schema is at fault."""
    calls, grammar = _call_grammar(asked), Grammar(asked.special_ids)
    function = _guided(asked, tool)
    try:
        call = calls.write(grammar, [function], 1)
    except UnwritableFunctionError as error:
        raise unusable_function(tool, str(error)) from error
    return Guide(grammar=grammar.beginning_with(call))


def _is_restricted(asked: AskedAnswer) -> bool:
    if asked.content_guide is not None:
        return True
    choice, allowed = asked.choice, asked.allowed_tools
    is_narrowed = choice.single_call or len(allowed) < len(asked.tools)
    return bool(asked.tools) and (
        choice.required or is_narrowed or any(tool.strict for tool in allowed)
    )


def _answer(asked: AskedAnswer, grammar: Grammar) -> str:
    """What is behind the thoughts."""
    guide = asked.content_guide
    if guide is not None and not asked.tools:
        return content(guide, grammar, _surroundings(asked, None))
    calls = _call_grammar(asked)
    required = asked.choice.required
    behind = _calls(asked, calls, grammar)
    beside = _surroundings(asked, calls)
    opened = f"{grammar.marker(calls.opening)} {behind}"
    if required:
        return behind if calls.may_begin_with else opened
    if guide is not None:
        bare = [behind] if calls.may_begin_with else []
        return one_of([content(guide, grammar, beside), opened, *bare])
    return _text_and_calls(calls, behind, grammar, beside)


def _calls(asked: AskedAnswer, calls: CallGrammar, grammar: Grammar) -> str:
    """What is behind the opening of calls."""
    allowed = asked.allowed_tools
    functions = [_guided(asked, tool) for tool in allowed]
    most = 1 if asked.choice.single_call else MOST_CALLS
    try:
        return grammar.rule(calls.write(grammar, functions, most))
    except UnwritableFunctionError:
        for tool in allowed:
            function_guide(asked, tool)  # raises what names the one
        raise


def _surroundings(asked: AskedAnswer, calls: CallGrammar | None) -> Surroundings:
    thoughts = asked.output_format.thoughts
    if thoughts is None:
        return Surroundings(calls)
    may_open = not (asked.begins_in_reasoning or thoughts.are_always_read)
    return Surroundings(calls, thoughts.opens if may_open else "", is_behind_thoughts=True)


def _text_and_calls(calls: CallGrammar, behind: str, grammar: Grammar, beside: Surroundings) -> str:
    text = free_text(grammar, beside)
    if grammar.is_special(calls.opening):
        answers = [text, f"{text}? {grammar.marker(calls.opening)} {behind}"]
    else:
        answers = [text, f"{text_up_to(calls.opening, grammar, beside)} {behind}"]
    if calls.may_begin_with:
        answers.append(behind)
    return f"{one_of(answers)}?"


def _thoughts(
    thoughts: ReasoningFormat,
    begins_inside: bool,  # noqa: FBT001 (a field of the decoder)
    grammar: Grammar,
) -> str:
    """The thoughts and their markup, up to the answer."""
    if not thoughts.closes:
        raise _unsupported(f"the thoughts of the output format `{thoughts.name}`", "output_format")
    end = escaped(thoughts.closes)
    breaks = grammar.terminal(r"/\n{1,2}/")
    if grammar.is_special(thoughts.closes):
        text = grammar.terminal(f"/(?s:.+)/ & ~/(?s:.*){end}(?s:.*)/")
        inside = f"{text}? {grammar.marker(thoughts.closes)} {breaks}?"
    else:
        text = grammar.terminal(f"/(?s:.*){end}/ & ~/(?s:.*){end}(?s:.+)/")
        inside = f"{text} {breaks}?"
    if begins_inside:
        return inside
    opening = grammar.marker(thoughts.opens)
    if thoughts.are_always_read:
        return f"({opening})? {inside}"
    return f"({opening} {inside})?"


def _guided(asked: AskedAnswer, tool: ToolSpec) -> GuidedFunction:
    if not (asked.choice.required or tool.strict):
        return GuidedFunction(tool.name, tool.parameters or ANY_OBJECT, is_exact=False)
    try:
        bounds = Bounds.for_context(asked.context_length)
        if not _call_grammar(asked).strings_are_json:
            bounds = replace(bounds, characters=None)
        schema = arguments_schema(tool.parameters, bounds)
        return GuidedFunction(tool.name, schema, is_exact=True)
    except UnwritableFunctionError as error:
        raise unusable_function(tool, str(error)) from error


def _call_grammar(asked: AskedAnswer) -> CallGrammar:
    calls = asked.output_format.calls
    if calls.grammar is None:
        param = "tool_choice"
        if asked.content_guide is not None:
            param = "content_guide"
        raise _unsupported(f"the calls of the output format `{calls.name}`", param)
    return calls.grammar


def unusable_function(tool: ToolSpec, problem: str) -> ServiceError:
    """A function whose schema cannot be followed, and why."""
    param = f"tools[{tool.index}].parameters"
    message = f"{param} of `{tool.name}` cannot be enforced: {problem}."
    return ServiceError(errors_pb2.ERROR_REASON_INVALID_REQUEST, message, param=param)


def _unsupported(what: str, param: str) -> ServiceError:
    message = f"{param} cannot be followed: {what} cannot be guided."
    return ServiceError(errors_pb2.ERROR_REASON_UNSUPPORTED_PARAMETER, message, param=param)

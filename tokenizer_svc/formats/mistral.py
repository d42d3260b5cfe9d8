"""Calls as Mistral's models write them, all behind [TOOL_CALLS].

Up to tokenizer version 7 it is a JSON array of objects; later each call has a marker of its own:
[TOOL_CALLS]name{…}, then [TOOL_CALLS]name[ARGS]{…}, with [CALL_ID]… before [ARGS] in between.
Source: Mistral's mistral-common, the instruct tokenizers.
"""

import re
from collections.abc import Generator, Sequence

from tokenizer_svc.formats.call_grammar import (
    CallGrammar,
    GrammarWriter,
    GuidedFunction,
    UnwritableFunctionError,
    one_of,
    several,
)
from tokenizer_svc.formats.json_call import JsonToolParser, call_beginning
from tokenizer_svc.formats.parser import MalformedError, Reading
from tokenizer_svc.formats.tool_parser import checked_name

TOOL_CALLS, CALL_ID, ARGS = "[TOOL_CALLS]", "[CALL_ID]", "[ARGS]"
MARKERS = (TOOL_CALLS, CALL_ID, ARGS)
_WORD = re.compile(r"[A-Za-z0-9_.:/-]*")


class MistralParser(JsonToolParser):
    """The state of one output."""

    markers = (TOOL_CALLS,)

    def _call(self, marker: str) -> Reading:
        del marker  # there is one
        yield from self._skip()
        first = yield from self._peek()
        if first == "[":
            yield from self._call_array()
        elif first == "{":
            yield from self._call_object()
        else:
            yield from self._named_call()

    def _call_array(self) -> Reading:
        separator = yield from self._expect("[")
        while separator != "]":
            yield from self._call_object()
            separator = yield from self._expect(",", "]")
        self._drop()

    def _named_call(self) -> Reading:
        name = checked_name((yield from self._word()))
        yield from self._skip()
        found = yield from self._finds((CALL_ID, ARGS))
        if found == CALL_ID:
            yield from self._skip()
            checked_name((yield from self._word()))
            yield from self._expect(ARGS)
        yield from self._skip()
        if (yield from self._peek()) != "{":
            raise MalformedError
        self._begin_call(name)
        yield from self._stream_arguments()
        self._end_call()

    def _word(self) -> Generator[None, None, str]:
        start = self._at - self._mark
        yield from self._skip(_WORD)
        return self._buffer[self._mark + start : self._at]


def _calls(writer: GrammarWriter, functions: Sequence[GuidedFunction], most: int) -> str:
    # Which of its two manners a model knows shows in its vocabulary.
    if writer.is_special(ARGS):
        call = writer.rule(one_of([_named(writer, each) for each in functions]))
        return several(call, f"{writer.marker(TOOL_CALLS)} {call}", most)
    objects = [
        f"{writer.text(call_beginning(each.name))} {writer.json(each.accepted)}"
        for each in functions
    ]
    call = writer.rule(f"{one_of(objects)} {writer.text('}')}")
    calls = several(call, f"{writer.text(', ')} {call}", most)
    return f"{writer.text(' ')}? {writer.text('[')} {calls} {writer.text(']')}"


def _named(writer: GrammarWriter, function: GuidedFunction) -> str:
    if not _WORD.fullmatch(function.name):
        raise UnwritableFunctionError("this model's calls have no place for such a name")
    return f"{writer.text(function.name)} {writer.marker(ARGS)} {writer.json(function.accepted)}"


GRAMMAR = CallGrammar(TOOL_CALLS, (TOOL_CALLS,), _calls)

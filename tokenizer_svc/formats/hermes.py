"""Calls as Hermes, Qwen 2.5 and Qwen 3 write them: JSON between <tool_call> and </tool_call>.

Source: the models' chat templates and Nous Research's description of Hermes function calling.
"""

from collections.abc import Sequence

from tokenizer_svc.formats.call_grammar import (
    CallGrammar,
    GrammarWriter,
    GuidedFunction,
    one_of,
    several,
)
from tokenizer_svc.formats.json_call import JsonToolParser, call_beginning
from tokenizer_svc.formats.parser import Reading

OPEN, CLOSE = "<tool_call>", "</tool_call>"


class HermesParser(JsonToolParser):
    """The state of one output. The end marker may be missing."""

    markers = (OPEN,)

    def _call(self, marker: str) -> Reading:
        del marker  # there is one
        yield from self._call_object()
        yield from self._end_marker(CLOSE)


def _calls(writer: GrammarWriter, functions: Sequence[GuidedFunction], most: int) -> str:
    objects = [
        f"{writer.text(chr(10) + call_beginning(each.name))} {writer.json(each.accepted)}"
        for each in functions
    ]
    end = f"{writer.text('}' + chr(10))} {writer.marker(CLOSE)}"
    call = writer.rule(f"{one_of(objects)} {end}")
    return several(call, f"{writer.text(chr(10))} {writer.marker(OPEN)} {call}", most)


GRAMMAR = CallGrammar(OPEN, (OPEN,), _calls)

"""Calls as Llama 3.1 to 3.3 write them: JSON with `parameters`, alone or behind <|python_tag|>.

Several follow one another, with `;` or blanks between. An object counts at the output's beginning,
behind another call and behind the tag; elsewhere it is content. Source: Meta's description of the
prompt format of Llama 3.1.
"""

from collections.abc import Generator, Sequence

from tokenizer_svc.formats.call_grammar import (
    CallGrammar,
    GrammarWriter,
    GuidedFunction,
    one_of,
    several,
)
from tokenizer_svc.formats.json_call import PARAMETERS, JsonToolParser, call_beginning
from tokenizer_svc.formats.parser import Reading

PYTHON_TAG = "<|python_tag|>"


class Llama3JsonParser(JsonToolParser):
    """The state of one output."""

    markers = (PYTHON_TAG,)
    needs_arguments = True

    def _follows(self) -> Generator[None, None, str | None]:
        if self._num_calls and (yield from self._finds((";",))) is not None:
            yield from self._skip_optional()
        return (yield from self._finds((*self.markers, "{")))

    def _call(self, marker: str) -> Reading:
        if marker == "{":
            self._at -= 1  # it is the object's
        yield from self._call_object()


def _calls(writer: GrammarWriter, functions: Sequence[GuidedFunction], most: int) -> str:
    objects = [
        f"{writer.text(call_beginning(each.name, PARAMETERS))} {writer.json(each.accepted)}"
        for each in functions
    ]
    call = writer.rule(f"{one_of(objects)} {writer.text('}')}")
    return several(call, f"{writer.text('; ')} {call}", most)


GRAMMAR = CallGrammar(PYTHON_TAG, (PYTHON_TAG,), _calls, may_begin_with="{")

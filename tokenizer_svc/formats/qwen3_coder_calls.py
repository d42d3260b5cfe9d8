"""How Qwen3-Coder's calls are written, for guides: a rule for each parameter of a function.

Parameters come in the schema's order, those required always. A parameter that the parser reads as
text is held to the few keywords that a regular expression can say; any other is JSON.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from tokenizer_svc.formats.bare_strings import ANNOTATIONS, alternatives, bare_strings, bare_words
from tokenizer_svc.formats.call_grammar import (
    CallGrammar,
    GrammarWriter,
    GuidedFunction,
    UnwritableFunctionError,
    one_of,
    several,
)
from tokenizer_svc.formats.parameter_values import is_string, schema_types
from tokenizer_svc.formats.qwen3_coder import (
    CLOSE,
    END_FUNCTION,
    END_PARAMETER,
    FUNCTION,
    OPEN,
    PARAMETER,
)

_NAME = re.compile(r"[^<>\s]+")
_FOLLOWED = ANNOTATIONS | {"type", "properties", "required", "additionalProperties"}
_DEFINITIONS = ("$defs", "definitions")


def _calls(writer: GrammarWriter, functions: Sequence[GuidedFunction], most: int) -> str:
    bodies = one_of([_body(writer, each) for each in functions])
    end = f"{writer.text(END_FUNCTION + chr(10))} {writer.marker(CLOSE)}"
    call = writer.rule(f"{bodies} {end}")
    return several(call, f"{writer.text(chr(10))} {writer.marker(OPEN)} {call}", most)


def _body(writer: GrammarWriter, function: GuidedFunction) -> str:
    if not _NAME.fullmatch(function.name):
        raise UnwritableFunctionError("this model's calls have no place for such a name")
    parts = [writer.text(f"\n{FUNCTION}{function.name}>\n")]
    schema = function.schema
    properties = _properties(function)
    required = schema.get("required", ()) if function.is_exact else ()
    for name, each in properties.items():
        is_optional = name not in required
        value = each if function.is_exact else {"type": sorted(schema_types(each, schema))}
        part = _parameter(writer, name, value, schema)
        parts.append(f"({part})?" if is_optional else part)
    return " ".join(parts)


def _properties(function: GuidedFunction) -> Mapping[str, Any]:
    schema = function.schema
    properties = schema.get("properties", {})
    if not isinstance(properties, dict):
        raise UnwritableFunctionError("properties must be an object")
    if function.is_exact:
        for keyword in schema:
            if keyword not in _FOLLOWED and keyword not in _DEFINITIONS:
                raise UnwritableFunctionError(
                    f"the keyword {keyword} of all parameters cannot be followed in this model's "
                    "calls"
                )
        for name in schema.get("required", ()):
            if name not in properties:
                raise UnwritableFunctionError(f"required names {name}, which properties does not")
    return properties


def _parameter(writer: GrammarWriter, name: str, schema: Any, whole: Mapping[str, Any]) -> str:
    if not _NAME.fullmatch(name):
        raise UnwritableFunctionError(f"this model's calls have no place for the name {name!r}")
    value = _value(writer, schema, whole)
    return f"{writer.text(f'{PARAMETER}{name}>' + chr(10))} {value} {writer.text(chr(10))}"


def _value(writer: GrammarWriter, schema: Any, whole: Mapping[str, Any]) -> str:
    """The value and the marker behind it, as the parser will read it."""
    types = schema_types(schema, whole)
    definitions = {name: whole[name] for name in _DEFINITIONS if name in whole}
    if is_string(types):
        return one_of([writer.terminal(p) for p in bare_strings(schema, whole, types)])
    if "string" not in types:
        return _json(writer, schema, definitions)
    parts = alternatives(schema, whole)
    values = []
    for part in parts:
        part_types = schema_types(part, whole)
        if part_types <= {"null", "boolean"}:
            # A lexeme as the strings beside it are, which would else be longer and win.
            values += [writer.terminal(p) for p in bare_words(part, part_types)]
        elif "string" not in part_types:
            values.append(_json(writer, part, definitions))
        else:
            values += [writer.terminal(p) for p in bare_strings(part, whole, types)]
    return one_of(values)


def _json(writer: GrammarWriter, schema: Any, definitions: Mapping[str, Any]) -> str:
    return f"{writer.json({**schema, **definitions})} {writer.text(chr(10) + END_PARAMETER)}"


GRAMMAR = CallGrammar(OPEN, (OPEN, FUNCTION), _calls, strings_are_json=False)

"""Values that stand as bare text in a call, as terminals of a grammar: strings and their keywords.

A terminal is the text, a line break and the marker that ends it. What the parser would not read as
the same string is left out, or refused where a schema wants it.
"""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from tokenizer_svc.formats.call_grammar import UnwritableFunctionError
from tokenizer_svc.formats.parameter_values import (
    COMBINATIONS,
    json_of,
    json_type,
    named_types,
    resolved,
    schema_types,
)
from tokenizer_svc.formats.qwen3_coder import END_PARAMETER
from tokenizer_svc.lark_patterns import escaped

ANNOTATIONS = frozenset(
    {"title", "description", "default", "examples", "deprecated", "$comment", "$schema", "$id"}
)
_OF_STRINGS = ANNOTATIONS | {"type", "enum", "const", "pattern", "minLength", "maxLength"}
_OF_ALL = frozenset({"$ref", "$dynamicRef", "not", "if", *_OF_STRINGS} - ANNOTATIONS)
_END = rf"\n{escaped(END_PARAMETER)}"
_ONE_END = f"~/(?s:.*){escaped(END_PARAMETER)}(?s:.+)/"
# Characters: counting more, beside the search for the end, is too complex for the matcher.
_MOST_COUNTED = 128
_BLANKS = r"[\s\x1c-\x1f]*"  # what Python strips
# How JSON of a type begins, or what all of it says: such a text would be read as that.
_READ_OTHERWISE = {
    "object": rf"{_BLANKS}\{{(?s:.*)",
    "array": rf"{_BLANKS}\[(?s:.*)",
    "number": rf"{_BLANKS}[0-9-](?s:.*)",
    "integer": rf"{_BLANKS}[0-9-](?s:.*)",
    "boolean": rf"{_BLANKS}([tT]rue|[fF]alse){_BLANKS}{_END}",
    "null": rf"{_BLANKS}(null|None){_BLANKS}{_END}",
}


def alternatives(schema: Any, whole: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """A schema of several types as schemas of one each. Raises UnwritableFunctionError."""
    schema = resolved(schema, whole)
    for keyword in COMBINATIONS:
        if keyword in schema:
            if set(schema) - ANNOTATIONS - {keyword}:
                raise _unfollowed(f"{keyword} beside others")
            return [part for each in schema[keyword] for part in alternatives(each, whole)]
    if "enum" in schema or "const" in schema:
        return [{"const": value} for value in _values(schema)]
    return [{**schema, "type": name} for name in sorted(named_types(schema))]


def bare_strings(schema: Any, whole: Mapping[str, Any], types: frozenset[str]) -> Iterator[str]:
    """The terminals of a schema of strings, where the parser knows of these types.

    Raises UnwritableFunctionError.
    """
    parts = alternatives(schema, whole) if schema_types(schema, whole) else [_untyped(schema)]
    for part in parts:
        for keyword in part:
            if keyword not in _OF_STRINGS:
                raise _unfollowed(keyword)
        if "const" in part:
            yield _literal(part["const"], types)
        else:
            yield " & ".join([*_free(part), _ONE_END, *_excluded(types)])


def bare_words(schema: Mapping[str, Any], types: frozenset[str]) -> Iterator[str]:
    """The terminals of a schema of null or booleans, as JSON writes them."""
    words = ["null"] if "null" in types else ["true", "false"]
    for word in [json.dumps(schema["const"])] if "const" in schema else words:
        yield f"/{word}{_END}/"


def _untyped(schema: Any) -> Mapping[str, Any]:
    """What a schema without types says of strings: other types' keywords are no matter."""
    if schema is False or (isinstance(schema, Mapping) and _OF_ALL & schema.keys()):
        raise _unfollowed(f"{json.dumps(schema)[:40]} without a type")
    return {}


def _free(schema: Mapping[str, Any]) -> Iterator[str]:
    least, most = schema.get("minLength", 0), schema.get("maxLength", "")
    for keyword in ("minLength", "maxLength"):
        if schema.get(keyword, 0) > _MOST_COUNTED:
            raise _unfollowed(f"{keyword} above {_MOST_COUNTED}")
    yield rf"/(?s:.){{{least},{most}}}{_END}/"
    if "pattern" in schema:
        yield f"/{_searched(schema['pattern'])}{_END}/"


def _searched(pattern: str) -> str:
    """A regular expression that matches what has a match of `pattern` somewhere within."""
    begins = pattern.startswith("^")
    ends = pattern.endswith("$") and not re.search(r"(?<!\\)(\\\\)*\\\$$", pattern)
    inner = pattern[begins : len(pattern) - ends]
    if (begins or ends) and "|" in re.sub(r"\\.|\[(\\.|[^\]])*\]|\([^()]*\)", "", inner):
        raise _unfollowed(f"pattern {pattern!r}, for its anchor beside |,")
    inner = re.sub(r"(?<!\\)((\\\\)*)/", r"\1\\/", inner).replace("\n", r"\n")
    before, behind = ("" if fixed else "(?s:.*)" for fixed in (begins, ends))
    return f"{before}({inner}){behind}"


def _literal(value: str, types: frozenset[str]) -> str:
    if END_PARAMETER in value or json_of(value, types) != json.dumps(value, ensure_ascii=False):
        raise _unfollowed(f"enum with the value {value[:40]!r}")
    return f"/{escaped(value)}{_END}/"


def _excluded(types: frozenset[str]) -> list[str]:
    return [f"~/{_READ_OTHERWISE[name]}/" for name in sorted(types) if name in _READ_OTHERWISE]


def _values(schema: Mapping[str, Any]) -> list[Any]:
    values = [schema["const"]] if "const" in schema else schema["enum"]
    allowed = named_types(schema)
    return [value for value in values if not allowed or json_type(value) & allowed]


def _unfollowed(keyword: str) -> UnwritableFunctionError:
    return UnwritableFunctionError(
        f"the keyword {keyword} of a string cannot be followed in this model's calls"
    )

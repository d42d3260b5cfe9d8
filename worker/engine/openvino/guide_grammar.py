"""From a guide to the grammar text that llguidance compiles: pure, refusals by name.

JSON is written with one space behind commas and colons and no other white space: what a model could
write without end is not allowed, and the rest is forced.
"""

import json
from collections.abc import Callable, Mapping
from typing import Any

from llguidance import LLMatcher, StructTag

from headrace.common.v1 import errors_pb2
from headrace.rpc.errors import ServiceError
from worker.engine.seam import Guide, GuideKind

_LAYOUT = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}
_MOST_CHARACTERS = 300
# With this sentence llguidance begins to tell of options of its own, which no caller can set.
_OPTION_HINT = " Enable '"
_OPTIONS = "x-guidance"  # a key of llguidance's own, which would switch refusals off


def grammar_of(guide: Guide) -> str:
    """The grammar; its own faults show when it is compiled.

    Raises ServiceError for a text that is not of the guide's form.
    """
    return _GRAMMARS[guide.kind](guide)


def tag_texts(guide: Guide) -> list[str]:
    """What opens and closes tags, of a guide that `grammar_of` has taken; none for other kinds."""
    if guide.kind != "structural_tag":
        return []
    document = json.loads(guide.text)
    ends = [tag[name] for tag in document["structures"] for name in ("begin", "end")]
    return [*document["triggers"], *ends]


def unusable_guide(guide: Guide, problem: str) -> ServiceError:
    """A guide that cannot be followed, and why."""
    message = f"{guide.param} cannot be used: {problem}."
    return ServiceError(errors_pb2.ERROR_REASON_INVALID_REQUEST, message, guide.param)


def in_words(problem: str) -> str:
    """A fault as llguidance tells it, as part of a sentence: the first line and the reason.

    Below stand the grammar itself, an excerpt with marks, or the state of the parser.
    """
    if problem.startswith("panic"):
        return "it is too complex"
    if problem.startswith("NoExtension"):
        return "no text satisfies it"
    first, *others = problem.partition(_OPTION_HINT)[0].splitlines()
    reason = next((line for line in others if line.startswith("error: ")), "")
    return f"{_shortened(first)} {reason}".rstrip(" .:")


def _json_schema(guide: Guide) -> str:
    return json.dumps({"grammars": [{"json_schema": _laid_out(guide, _document(guide))}]})


def _json_object(_guide: Guide) -> str:
    return json.dumps({"grammars": [{"json_schema": {"type": "object", _OPTIONS: _LAYOUT}}]})


def _regex(guide: Guide) -> str:
    return LLMatcher.grammar_from_regex(guide.text)


def _grammar(guide: Guide) -> str:
    return LLMatcher.grammar_from_lark(guide.text)


def _choice(guide: Guide) -> str:
    alternatives = (json.dumps(text, ensure_ascii=False) for text in json.loads(guide.text))
    return LLMatcher.grammar_from_lark("start: " + " | ".join(alternatives))


def _structural_tag(guide: Guide) -> str:
    """`{"structures": [{"begin", "schema", "end"}, …], "triggers": […]}`: free text with tags.

    A tag opens where the text holds the trigger that its `begin` starts with.
    """
    document = _document(guide)
    structures = _listed(guide, document, "structures", dict)
    triggers = _listed(guide, document, "triggers", str)
    tags = [_tag(guide, structure, triggers) for structure in structures]
    return StructTag.to_grammar(tags, assume_special=False)


def _listed(guide: Guide, document: dict[str, Any], name: str, kind: type) -> list[Any]:
    value = document.get(name)
    if isinstance(value, list) and value and all(v and isinstance(v, kind) for v in value):
        return value
    raise unusable_guide(guide, f"{name} must be a list of at least one {kind.__name__}, not empty")


def _tag(guide: Guide, structure: dict[str, Any], triggers: list[str]) -> StructTag:
    begin, end, schema = (structure.get(name) for name in ("begin", "end", "schema"))
    if not (isinstance(begin, str) and isinstance(end, str) and isinstance(schema, dict)):
        problem = "each structure needs the texts begin and end, and the object schema"
        raise unusable_guide(guide, problem)
    trigger = next((text for text in triggers if begin.startswith(text)), None)
    if trigger is None:
        raise unusable_guide(guide, f"no trigger is the beginning of {begin!r}")
    return StructTag(trigger=trigger, begin=begin, grammar=_laid_out(guide, schema), end=end)


def _document(guide: Guide) -> dict[str, Any]:
    try:
        document = json.loads(guide.text, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise unusable_guide(guide, f"it is not JSON: {error}") from error
    if not isinstance(document, dict):
        raise unusable_guide(guide, "it must be a JSON object")
    return document


def _laid_out(guide: Guide, schema: dict[str, Any]) -> dict[str, Any]:
    if _OPTIONS in schema:
        raise unusable_guide(guide, f"the keyword {_OPTIONS} is not allowed")
    return {**schema, _OPTIONS: _LAYOUT}


def _shortened(line: str) -> str:
    # Both ends tell: where it is, and what it is.
    half = _MOST_CHARACTERS // 2
    return line if len(line) <= _MOST_CHARACTERS else f"{line[:half]} … {line[-half:]}"


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no number")


_GRAMMARS: Mapping[GuideKind, Callable[[Guide], str]] = {
    "json_schema": _json_schema,
    "json_object": _json_object,
    "regex": _regex,
    "grammar": _grammar,
    "structural_tag": _structural_tag,
    "choice": _choice,
}

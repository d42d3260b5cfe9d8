"""A guide of the content alone as a part of a grammar that has thoughts or calls beside it."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from headrace.common.v1 import errors_pb2
from headrace.rpc.errors import ServiceError
from headrace.worker.v1.generation_pb2 import Guide
from tokenizer_svc.formats.call_grammar import CallGrammar, one_of
from tokenizer_svc.guides.grammar import OPTIONS, Grammar
from tokenizer_svc.json_objects import parsed_object
from tokenizer_svc.lark_patterns import escaped, without
from tokenizer_svc.settings import LimitSettings

PARAM = "content_guide"
_CALL_WORDS = ({"name"}, {"arguments", "parameters"})


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What stands beside a content, and what it must therefore not be taken for.

    `calls`: how calls are written, None where there are none. `thoughts_opening`: with what
    thoughts may begin in its place, empty where they cannot. `is_behind_thoughts`: line breaks in
    front of it are markup.
    """

    calls: CallGrammar | None = None
    thoughts_opening: str = ""
    is_behind_thoughts: bool = False

    @property
    def beginnings(self) -> str:
        """What keeps a terminal from beginning as something else does."""
        bare = self.calls.may_begin_with if self.calls is not None else None
        openings = [text for text in (bare, self.thoughts_opening) if text]
        patterns = [rf"\s*{escaped(text)}(?s:.*)" for text in openings]
        if self.is_behind_thoughts:
            patterns.append(r"\n(?s:.*)")
        return "".join(f" & ~/{pattern}/" for pattern in patterns)

    @property
    def exclusions(self) -> str:
        """What keeps a terminal from being taken for thoughts or a call, or from holding one."""
        return without(self.calls.markers if self.calls is not None else ()) + self.beginnings


def content_characters(guide: Guide) -> int:
    """Length of a guide's text."""
    kind = guide.WhichOneof("kind")
    if kind == "choice":
        return sum(map(len, guide.choice.alternatives))
    return 0 if kind in (None, "json_object") else len(getattr(guide, kind))


def check_content(guide: Guide, limits: LimitSettings) -> None:
    """The guide has a kind and a text, within the limits; cheap. Raises ServiceError."""
    size = content_characters(guide)
    if size > limits.max_schema_characters:
        raise refused(f"it has {size} characters; at most {limits.max_schema_characters} may be")
    match guide.WhichOneof("kind"):
        case None:
            raise refused("it has no kind")
        case "json_object" if not guide.json_object:
            raise refused("json_object must not be false")
        case "choice" if not (guide.choice.alternatives and all(guide.choice.alternatives)):
            raise refused("choice needs at least one alternative, and none that is empty")
        case "json_schema" | "regex" | "grammar" | "structural_tag" as kind:
            if not size:
                raise refused(f"{kind} must not be empty")
        case "json_object" | "choice":
            return


def content(guide: Guide, grammar: Grammar, beside: Surroundings) -> str:
    """The content as an expression. Raises ServiceError."""
    calls = beside.calls
    match guide.WhichOneof("kind"):
        case "json_schema":
            return _json(json_schema(guide.json_schema), grammar, calls)
        case "json_object":
            return _json({"type": "object"}, grammar, calls)
        case "regex":
            return _regex(guide.regex, grammar, beside)
        case "choice":
            return _choice(list(guide.choice.alternatives), grammar, calls)
        case "grammar" if calls is None:
            return grammar.nested(guide.grammar)
        case "grammar":
            raise refused("a grammar cannot stand beside tools, whose calls it might spell")
        case _:
            raise refused("a structural tag can only be followed without thoughts and tools")


def json_schema(text: str) -> dict[str, Any]:
    """The schema of a content guide. Raises ServiceError."""
    try:
        schema = parsed_object(text)
    except ValueError as error:
        raise refused(f"it is not the JSON of a schema that can be read: {error}") from error
    if OPTIONS in schema:
        raise refused(f"the keyword {OPTIONS} is not allowed")
    return schema


def refused(problem: str) -> ServiceError:
    """A content guide that cannot be followed, and why."""
    message = f"{PARAM} cannot be used: {problem}."
    return ServiceError(errors_pb2.ERROR_REASON_INVALID_REQUEST, message, param=PARAM)


def _json(schema: Mapping[str, Any], grammar: Grammar, calls: CallGrammar | None) -> str:
    if calls is not None and calls.may_begin_with == "{" and _may_be_call(schema):
        raise refused(
            "beside tools it must be a schema of objects that cannot be taken for a call of this "
            "model: with additionalProperties false, and without either name or parameters"
        )
    return grammar.json(schema)


def _may_be_call(schema: Mapping[str, Any]) -> bool:
    kind = schema.get("type")
    if isinstance(kind, str) and kind != "object":
        return False
    members = schema.get("properties")
    is_closed = schema.get("additionalProperties") is False and kind == "object"
    if not (is_closed and isinstance(members, Mapping)):
        return True
    return all(words & members.keys() for words in _CALL_WORDS)


def _regex(pattern: str, grammar: Grammar, beside: Surroundings) -> str:
    if "\n" in pattern:
        raise refused("beside thoughts or tools a regular expression must be one line")
    slashed = re.sub(r"(?<!\\)((\\\\)*)/", r"\1\\/", pattern)
    return grammar.terminal(f"/{slashed}/{beside.exclusions}")


def _choice(alternatives: list[str], grammar: Grammar, calls: CallGrammar | None) -> str:
    for text in alternatives:
        if calls is None:
            break
        is_call = calls.may_begin_with and text.lstrip().startswith(calls.may_begin_with)
        if is_call or any(marker in text for marker in calls.markers):
            shown = json.dumps(text[:80], ensure_ascii=False)
            raise refused(f"beside tools the choice {shown} could be taken for a call")
    return one_of([grammar.text(text) for text in alternatives])


def free_text(grammar: Grammar, beside: Surroundings) -> str:
    """Any text that holds no call."""
    return grammar.terminal(f"/(?s:.+)/{beside.exclusions}")


def text_up_to(opening: str, grammar: Grammar, beside: Surroundings) -> str:
    """Any text that holds no call, and the opening of one, which is no special token."""
    markers = beside.calls.markers if beside.calls is not None else ()
    others = without(tuple(marker for marker in markers if marker != opening))
    end = escaped(opening)
    only_end = f"/(?s:.*){end}/ & ~/(?s:.*){end}(?s:.+)/"
    return grammar.terminal(f"{only_end}{others}{beside.beginnings}")

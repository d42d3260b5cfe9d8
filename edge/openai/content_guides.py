"""What the content of an answer must be: `response_format`, and the fields of vLLM's clients.

All of them say the same in different forms, so that a request may have one. Whatever is taken is
enforced, `strict` or not.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import orjson

from edge.openai import checks, problems
from edge.openai.guide_checks import STRUCTURED_KINDS
from edge.openai.profile import Profile
from edge.openai.request_limits import RequestLimits
from edge.openai.strict_schema import strict_schema_problem
from edge.openai.tools import TOOL_NAME
from headrace.client.prompt_request import ChatMessage, ContentGuide

GUIDE_FIELDS = (
    "response_format",
    "guided_json",
    "guided_regex",
    "guided_choice",
    "guided_grammar",
    "structured_outputs",
)
UNNAMED_SCHEMA = "response"
_NAMED_OPTIONS: Mapping[str, checks.Check] = {
    "description": checks.string(),
    "strict": checks.boolean,
}


class ContentRules:
    """A profile's and the operator's rules for what the content must be."""

    def __init__(self, profile: Profile, limits: RequestLimits) -> None:
        self._is_strict = profile.strict_messages
        self._most_bytes = limits.max_schema_bytes

    def settle(self, values: dict[str, Any]) -> tuple[ContentGuide, str, str] | None:
        """Take the guide out of `values`: with its field and the name of its schema.

        None where there is none. Raises ServiceError.
        """
        given = [name for name in GUIDE_FIELDS if name in values]
        if not given:
            return None
        if len(given) > 1:
            raise problems.exclusive(given[0], given[1])
        (field,) = given
        value = values.pop(field)
        if field == "response_format":
            guide, name = self._response_format(value)
        else:
            guide, name = self._guided(field, value), ""
        size = len(guide.text.encode())
        if size > self._most_bytes:
            raise problems.too_many_bytes(field, self._most_bytes, size)
        return guide, field, name

    def _response_format(self, value: Mapping[str, Any]) -> tuple[ContentGuide, str]:
        beside = value.get("schema")
        if value["type"] == "json_object":
            if beside is None:
                return ContentGuide("json_object"), ""
            # Some servers take a schema here; to leave it out would be to promise it.
            return self._schema_beside("response_format.schema", beside)
        param = "response_format.json_schema"
        named = value.get("json_schema")
        if named is None:
            if beside is not None:
                return self._schema_beside("response_format.schema", beside)
            raise problems.missing(param)
        named = checks.json_object(param, named)
        name = self._schema_name(f"{param}.name", named.get("name"))
        for key, check in _NAMED_OPTIONS.items():
            if named.get(key) is not None:
                check(f"{param}.{key}", named[key])
        schema = checks.json_object(f"{param}.schema", _given(param, named, "schema"))
        text = _text("response_format", schema)
        if self._is_strict and named.get("strict"):
            _check_strict(name, schema)
        return ContentGuide("json_schema", text), name

    def _schema_beside(self, param: str, schema: Any) -> tuple[ContentGuide, str]:
        if self._is_strict:
            raise problems.refused(f"Unknown parameter: '{param}'.", param, "unknown_parameter")
        text = _text("response_format", checks.json_object(param, schema))
        return ContentGuide("json_schema", text), UNNAMED_SCHEMA

    def _schema_name(self, param: str, name: Any) -> str:
        if not self._is_strict:
            return UNNAMED_SCHEMA if name is None else checks.string()(param, name)
        if name is None:
            raise problems.missing(param)
        return TOOL_NAME(param, name)

    def _guided(self, field: str, value: Any) -> ContentGuide:
        kind = field.removeprefix("guided_")
        if field == "structured_outputs":
            (kind,) = (name for name in STRUCTURED_KINDS if value.get(name) is not None)
            value, field = value[kind], f"{field}.{kind}"
        return _GUIDED[kind](field, value)


def require_json_word(messages: Iterable[ChatMessage]) -> None:
    """Refuse a conversation that does not say that JSON is wanted, of which a model must know.

    Raises ServiceError in OpenAI's words.
    """
    if not any("json" in (message.content or "").lower() for message in messages):
        raise problems.refused(
            "'messages' must contain the word 'json' in some form, to use 'response_format' of "
            "type 'json_object'.",
            "messages",
        )


def _check_strict(name: str, schema: dict[str, Any]) -> None:
    problem = strict_schema_problem(schema)
    if problem is not None:
        raise problems.invalid_format_schema(name, problem)


def _given(param: str, entry: Mapping[str, Any], name: str) -> Any:
    if entry.get(name) is None:
        raise problems.missing(f"{param}.{name}")
    return entry[name]


def _text(param: str, value: Any) -> str:
    try:
        return orjson.dumps(value).decode()
    except orjson.JSONEncodeError:
        raise problems.nested_too_deeply(param) from None


def _json_guide(param: str, value: Any) -> ContentGuide:
    """A schema, or its text."""
    if isinstance(value, str):
        try:
            value = orjson.loads(value)
        except orjson.JSONDecodeError:
            message = f"Invalid '{param}': expected an object, or its JSON as a string."
            raise problems.refused(message, param, "invalid_value") from None
    return ContentGuide("json_schema", _text(param, checks.json_object(param, value)))


_GUIDED: Mapping[str, Callable[[str, Any], ContentGuide]] = {
    "json": _json_guide,
    "json_object": lambda _param, _value: ContentGuide("json_object"),
    "regex": lambda _param, value: ContentGuide("regex", value),
    "grammar": lambda _param, value: ContentGuide("grammar", value),
    "choice": lambda param, value: ContentGuide("choice", _text(param, value)),
}

"""What the content must be: `response_format` and the fields of vLLM's clients."""

import json
from typing import Any

import pytest

from edge.openai.chat_request import RequestRules, parse_chat_request
from edge.openai.request_limits import RequestLimits
from headrace.client.prompt_request import ContentGuide
from headrace.rpc.errors import ServiceError
from tests.support.chat_requests import BASE, LENIENT, PROFILES, code_of, parsed, refusal

OPENAIS = ("openai", "pinstripes", "polargrid")
OTHERS = (*LENIENT, "premai")
SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}}
TEXT = '{"type":"object","properties":{"a":{"type":"integer"}}}'
SAYS_JSON = [{"role": "system", "content": "Answer as Json."}, BASE["messages"][0]]


def json_schema(**fields: Any) -> dict[str, Any]:
    return {"type": "json_schema", "json_schema": {"name": "answer", "schema": SCHEMA, **fields}}


@pytest.mark.wire("A4.response_format")
@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("strict", [None, False])
def test_json_schema(profile: str, strict: Any) -> None:
    """A schema is enforced, whether or not it is strict, and its name is kept for errors."""
    request = parsed(profile, response_format=json_schema(strict=strict, description="Of a."))

    assert ContentGuide("json_schema", TEXT) == request.content_guide
    assert ("response_format", "answer") == (
        request.content_guide_param,
        request.origins.schema_name,
    )
    assert () == request.ignored


def test_strict_schema() -> None:
    """OpenAI's rules hold strict schemas, under its own forms alone."""
    for profile in OPENAIS:
        error = refusal(profile, response_format=json_schema(strict=True))
        assert ("response_format", None) == (error.param, code_of(error))
        assert error.message == (
            "Invalid schema for response_format 'answer': In context=(), 'additionalProperties' is "
            "required to be supplied and to be false."
        )
    closed = {**SCHEMA, "required": ["a"], "additionalProperties": False}
    assert parsed(response_format=json_schema(strict=True)).content_guide is not None
    taken = parsed("openai", response_format=json_schema(strict=True, schema=closed))
    assert taken.content_guide is not None
    assert closed == json.loads(taken.content_guide.text)


@pytest.mark.parametrize(
    ("value", "param", "code"),
    [
        ({"type": "json_schema"}, "response_format.json_schema", "missing_required_parameter"),
        (json_schema(schema=None), "response_format.json_schema.schema", "missing_required_"),
        (json_schema(schema=[]), "response_format.json_schema.schema", "invalid_type"),
        (json_schema(strict=1), "response_format.json_schema.strict", "invalid_type"),
        (json_schema(description=1), "response_format.json_schema.description", "invalid_type"),
        (json_schema(name=1), "response_format.json_schema.name", "invalid_type"),
        ({"type": "json_schema", "json_schema": 1}, "response_format.json_schema", "invalid_type"),
    ],
)
@pytest.mark.parametrize("profile", PROFILES)
def test_wrong_formats(profile: str, value: Any, param: str, code: str) -> None:
    """What is not of its form is refused by every profile, and nothing is left unconstrained."""
    error = refusal(profile, response_format=value)

    assert param == error.param
    assert (code_of(error) or "").startswith(code)


def test_names_of_schemas() -> None:
    """OpenAI's own forms demand a name like a function's; the others need none."""
    for profile in OPENAIS:
        param = "response_format.json_schema.name"
        assert param == refusal(profile, response_format=json_schema(name=None)).param
        assert param == refusal(profile, response_format=json_schema(name="a b")).param
    for profile in OTHERS:
        request = parsed(profile, response_format=json_schema(name=None))
        assert request.origins.schema_name == "response"
        assert parsed(profile, response_format=json_schema(name="a b")).origins.schema_name == "a b"


@pytest.mark.parametrize("kind", ["json_object", "json_schema"])
def test_schema_beside_the_type(kind: str) -> None:
    """Some servers take a schema there: taken as one, or refused by name, but never left out."""
    value = {"type": kind, "schema": SCHEMA}
    for profile in OTHERS:
        guide = parsed(profile, response_format=value).content_guide
        assert ContentGuide("json_schema", TEXT) == guide
    for profile in OPENAIS:
        error = refusal(profile, response_format=value)
        assert ("response_format.schema", "unknown_parameter") == (error.param, code_of(error))


def test_json_object() -> None:
    """Any object; OpenAI demands that the conversation says so."""
    value = {"type": "json_object"}
    for profile in PROFILES:
        request = parsed(profile, response_format=value, messages=SAYS_JSON)
        assert ContentGuide("json_object") == request.content_guide
    for profile in OPENAIS:
        error = refusal(profile, response_format=value)
        assert ("messages", None) == (error.param, code_of(error))
        assert error.message == (
            "'messages' must contain the word 'json' in some form, to use 'response_format' of "
            "type 'json_object'."
        )
    for profile in OTHERS:
        assert parsed(profile, response_format=value).content_guide is not None


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize(
    ("field", "value", "guide"),
    [
        ("guided_json", SCHEMA, ContentGuide("json_schema", TEXT)),
        ("guided_json", json.dumps(SCHEMA), ContentGuide("json_schema", TEXT)),
        ("guided_regex", "a+", ContentGuide("regex", "a+")),
        ("guided_choice", ["ä", 'b"'], ContentGuide("choice", '["ä","b\\""]')),
        ("guided_grammar", "start: /a/", ContentGuide("grammar", "start: /a/")),
        ("structured_outputs", {"json": SCHEMA}, ContentGuide("json_schema", TEXT)),
        ("structured_outputs", {"json": TEXT, "regex": None}, ContentGuide("json_schema", TEXT)),
        ("structured_outputs", {"regex": "a+"}, ContentGuide("regex", "a+")),
        ("structured_outputs", {"choice": ["a"]}, ContentGuide("choice", '["a"]')),
        ("structured_outputs", {"grammar": "start: /a/"}, ContentGuide("grammar", "start: /a/")),
        ("structured_outputs", {"json_object": True}, ContentGuide("json_object")),
    ],
)
def test_guides(profile: str, field: str, value: Any, guide: ContentGuide) -> None:
    """Each of vLLM's fields becomes the guide that it means, by its own name."""
    request = parsed(profile, **{field: value})

    assert (guide, field, ()) == (request.content_guide, request.content_guide_param, ())


@pytest.mark.parametrize("profile", ["openai", "lenient"])
@pytest.mark.parametrize(
    ("field", "value", "param", "code"),
    [
        ("guided_json", 1, "guided_json", "invalid_type"),
        ("guided_json", "", "guided_json", "empty_string"),
        ("guided_json", "{", "guided_json", "invalid_value"),
        ("guided_json", "[]", "guided_json", "invalid_type"),
        ("guided_regex", "", "guided_regex", "empty_string"),
        ("guided_regex", 1, "guided_regex", "invalid_type"),
        ("guided_choice", [], "guided_choice", "empty_array"),
        ("guided_choice", ["a", ""], "guided_choice[1]", "empty_string"),
        ("guided_choice", ["a"] * 1025, "guided_choice", "array_above_max_length"),
        ("guided_grammar", {}, "guided_grammar", "invalid_type"),
        ("structured_outputs", {}, "structured_outputs", "missing_required_parameter"),
        ("structured_outputs", {"json": "x"}, "structured_outputs.json", "invalid_value"),
        ("structured_outputs", {"json_object": 1}, "structured_outputs.json_object", "invalid_typ"),
        ("structured_outputs", {"json_object": False}, "structured_outputs.json_object", "invalid"),
        (
            "structured_outputs",
            {"regex": "a", "whitespace_pattern": "x"},
            "structured_outputs.whitespace_pattern",
            "unsupported_parameter",
        ),
        (
            "structured_outputs",
            {"regex": "a", "choice": ["a"]},
            "structured_outputs.choice",
            "invalid_parameter_combination",
        ),
    ],
)
def test_wrong_guides(profile: str, field: str, value: Any, param: str, code: str) -> None:
    """A guide of another form, or of two, is refused by name, in every profile."""
    error = refusal(profile, **{field: value})

    assert param == error.param
    assert (code_of(error) or "").startswith(code)


@pytest.mark.parametrize("profile", PROFILES)
def test_one_guide(profile: str) -> None:
    """Two fields that say what the content must be are refused, both named; text says nothing."""
    error = refusal(profile, guided_regex="a", response_format=json_schema())

    assert ("guided_regex", "invalid_parameter_combination") == (error.param, code_of(error))
    assert "'response_format' and 'guided_regex'" in error.message
    taken = parsed(profile, guided_regex="a", response_format={"type": "text"})
    assert taken.content_guide_param == "guided_regex"


@pytest.mark.parametrize("profile", ["openai", "lenient"])
def test_bounds(profile: str) -> None:
    """A guide is bounded in bytes, a schema in depth, in every profile."""
    deep: Any = {}
    for _ in range(300):
        deep = {"a": deep}
    rules = RequestRules(PROFILES[profile], RequestLimits(max_schema_bytes=16))
    for field, value in (
        ("guided_regex", "ä" * 9),
        ("guided_choice", ["a" * 9, "b" * 9]),
        ("response_format", json_schema()),
        ("guided_json", deep),
        ("response_format", json_schema(schema=deep)),
        ("response_format", json_schema(schema=deep, strict=True)),
    ):
        with pytest.raises(ServiceError) as caught:
            parse_chat_request(json.dumps({**BASE, field: value}).encode(), rules)
        assert (field, "invalid_value") == (caught.value.param, code_of(caught.value))
    exact = json.dumps({**BASE, "guided_regex": "ä" * 8}).encode()
    assert parse_chat_request(exact, rules).content_guide is not None

"""The OpenAPI document against the tables and encoders that it describes."""

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openapi_spec_validator import OpenAPIV31SpecValidator

from bench.fuzz.schema_book import SchemaBook
from edge.openai.chat_request import RequestRules, read_chat_request
from edge.openai.checks import NumberRange
from edge.openai.errors import error_headers
from edge.openai.fields import FIELDS, FieldSpec, Use
from edge.openai.openapi import Surface, openapi_document, schema_name
from edge.openai.openapi_headers import HEADERS, LIMITED
from edge.openai.profile import Profile
from edge.openai.request_limits import RequestLimits
from edge.profile_data import shipped_profiles
from headrace.rpc.errors import ERROR_TABLE, ServiceError

PROFILES = dict(shipped_profiles())
MOUNTS = {"/v1": "openai", "/api/v1": "lenient", "": "lenient"}
SURFACE = Surface(MOUNTS, PROFILES, RequestLimits(), needs_key=False, version="1")
DOCUMENT = openapi_document(SURFACE)
BOOK = SchemaBook(DOCUMENT)
HELLO: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "hello"}]}
CALL = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
RESULT = {"role": "tool", "tool_call_id": "c1", "content": "42"}
# Each field is given all of these in turn, beside those that hypothesis finds.
VALUES: list[Any] = [
    0, 1, -1, 2, 2.5, -0.5, 0.25, 21, 129, 2**32, 2**33, 2**63 - 1, -(2**63), 1e300,
    True, False, "", "auto", "default", "none", "text", "high", "24h", "x" * 129, "x" * 64,
    [], ["text"], ["audio"], ["a", "b", "c", "d", "e"], [""], [1, 2], [-1], [1] * 65, ["text"] * 3,
    {}, {"type": "text"}, {"type": "json_object"}, {"type": "audio"}, {"type": 1},
    {"type": "content", "content": "x"}, {"type": "content", "content": []}, {"type": "content"},
    {"1": 0.5}, {"1": 101}, {"x": 1}, {"12345678901": 1}, {"1": "1"}, {"a": "b"}, {"a": 1},
    {"k" * 65: "v"}, {"k": "v" * 513}, {str(n): "v" for n in range(17)},
    {str(n): 1 for n in range(301)}, {str(n): 1 for n in range(1025)},
    {"include_usage": True}, {"include_usage": 1}, {"include_usage": None},
]  # fmt: skip
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False,
    allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner,
    max_size=3),
    max_leaves=6,
)  # fmt: skip


def _spelt_decimal(value: Any) -> bool:
    """Whether a value holds a whole number with a point, which JSON Schema calls an integer."""
    if isinstance(value, list | dict):
        return any(map(_spelt_decimal, value.values() if isinstance(value, dict) else value))
    return isinstance(value, float) and value.is_integer()


def _passes(spec: FieldSpec, value: Any, profile: Profile) -> bool:
    try:
        if isinstance(spec.check, NumberRange) and not profile.strict:
            spec.check.nearest(spec.name, value)
            return True
        checked = spec.check(spec.name, value)
    except ServiceError:
        return False
    return spec.use_of(strict=profile.strict) is not Use.REFUSED or spec.is_neutral(checked)


def _checked_here() -> list[FieldSpec]:
    """Fields whose check is the table's alone; `n` has the operator's bound beside it."""
    taken_whole = {
        *("messages", "tools", "functions", "tool_choice", "function_call", "n"),
        *("response_format", "chat_template_kwargs"),
    }
    return [spec for spec in FIELDS if spec.name not in taken_whole]


def test_document_is_valid() -> None:
    """It is OpenAPI 3.1, with keys and without."""
    OpenAPIV31SpecValidator(DOCUMENT).validate()
    locked = Surface(MOUNTS, PROFILES, RequestLimits(), needs_key=True, version="1")
    document = openapi_document(locked)
    OpenAPIV31SpecValidator(document).validate()
    assert document["security"] == [{"key": []}]
    assert document["paths"]["/ready"]["get"]["security"] == []
    assert "security" not in document["paths"]["/v1/models"]["get"]
    assert "security" not in DOCUMENT
    assert "401" not in DOCUMENT["paths"]["/v1/models"]["get"]["responses"]


@pytest.mark.parametrize("profile", sorted(PROFILES))
def test_every_field(profile: str) -> None:
    """Every field of the table is in each profile's request, and nothing else."""
    schema = DOCUMENT["components"]["schemas"][schema_name("ChatCompletionRequest", profile)]
    assert list(schema["properties"]) == [spec.name for spec in FIELDS]


@pytest.mark.parametrize("profile", ["openai", pytest.param("lenient", marks=pytest.mark.slow)])
@pytest.mark.parametrize("spec", _checked_here(), ids=lambda spec: spec.name)
@settings(max_examples=20)
@given(value=JSON)
def test_schema_says_what_is_taken(spec: FieldSpec, profile: str, value: Any) -> None:
    """What a field's schema admits passes the field's check, and nothing else does."""
    _compare(spec, profile, value)


@pytest.mark.parametrize("profile", ["openai", "lenient"])
@pytest.mark.parametrize("spec", _checked_here(), ids=lambda spec: spec.name)
def test_schema_says_what_is_taken_of_edges(spec: FieldSpec, profile: str) -> None:
    """The same for values at the edges of ranges."""
    for value in VALUES:
        _compare(spec, profile, value)


def _compare(spec: FieldSpec, profile: str, value: Any) -> None:
    if value is None or _spelt_decimal(value):
        return
    name = schema_name("ChatCompletionRequest", profile)
    document = {**HELLO, spec.name: value}
    problem = BOOK.problem(name, document)
    assert (problem is None) == _passes(spec, value, PROFILES[profile]), (value, problem)


CONVERSATIONS: list[list[dict[str, Any]]] = [
    [{"role": "user", "content": "x"}],
    [{"role": "user", "content": [{"type": "text", "text": "x"}]}],
    [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}],
    [{"role": "user", "content": []}],
    [{"role": "user", "content": None}],
    [{"role": "user"}],
    [{"role": "narrator", "content": "x"}],
    [{"content": "x"}],
    [],
    [{"role": "user", "content": "x", "name": "a b"}],
    [{"role": "user", "content": "x", "name": "ab", "other": 1}],
    [{"role": "function", "content": None, "name": "f"}],
    [{"role": "function", "content": "x"}],
    [{"role": "assistant", "content": None}],
    [{"role": "assistant", "content": None, "refusal": "no"}],
    [{"role": "assistant", "reasoning_content": "hm"}],
    [{"role": "assistant", "content": "x", "audio": {"id": "a"}}],
    [{"role": "assistant", "content": [{"type": "refusal", "refusal": "no"}]}],
    [{"role": "assistant", "tool_calls": [CALL]}, RESULT],
    [{"role": "assistant", "tool_calls": [{**CALL, "id": ""}]}],
    [{"role": "assistant", "tool_calls": [{**CALL, "type": "custom"}]}],
    [{"role": "assistant", "tool_calls": [{"function": {"name": "a b", "arguments": {}}}]}],
    [{"role": "assistant", "tool_calls": []}],
    [{"role": "assistant", "function_call": {"name": "f", "arguments": "{}"}}],
    [{"role": "assistant", "function_call": {"name": "f"}}],
    [{"role": "assistant", "content": "x", "tool_calls": [None]}],
    [{"role": "tool", "content": "x"}],
]


@pytest.mark.parametrize("strict", [True, False])
@pytest.mark.parametrize("messages", CONVERSATIONS, ids=str)
def test_messages_are_taken_as_described(messages: Any, strict: bool) -> None:
    """A conversation that the schema admits is taken, but for what belongs together."""
    profile = "openai" if strict else "lenient"
    document = {"model": "m", "messages": messages}
    taken = _refusal(document, PROFILES[profile]) is None
    problem = BOOK.problem(schema_name("ChatCompletionRequest", profile), document)
    assert taken == (problem is None), problem


def _refusal(document: dict[str, Any], profile: Profile) -> ServiceError | None:
    try:
        read_chat_request(document, RequestRules(profile))
    except ServiceError as error:
        return error
    return None


def test_every_reason_has_its_status() -> None:
    """Each status that a chat request can end with is described, with the reasons' codes."""
    responses = DOCUMENT["paths"]["/v1/chat/completions"]["post"]["responses"]
    locked = Surface(MOUNTS, PROFILES, RequestLimits(), needs_key=True, version="1")
    with_keys = openapi_document(locked)["paths"]["/v1/chat/completions"]["post"]["responses"]
    statuses = {str(row.http_status) for row in ERROR_TABLE.values()} - {"499", "405"}
    assert statuses | {"200", "default"} == set(with_keys)
    assert set(with_keys) - {"401"} == set(responses)
    described = " ".join(response["description"] for response in with_keys.values())
    for row in ERROR_TABLE.values():
        if str(row.http_status) in statuses and row.openai_code:
            assert f"`{row.openai_code}`" in described


def test_every_header_of_failures() -> None:
    """Headers that failures have are among those described."""
    names = {name for reason in ERROR_TABLE for name in error_headers(ServiceError(reason, ""))}
    assert names <= set(HEADERS)


def test_limits_have_headers_only_with_keys() -> None:
    """What only a key's bounds bring is described only where keys are."""
    locked = Surface(MOUNTS, PROFILES, RequestLimits(), needs_key=True, version="1")
    chat = "/v1/chat/completions"
    with_keys = openapi_document(locked)["paths"][chat]["post"]["responses"]["200"]["headers"]
    without = DOCUMENT["paths"][chat]["post"]["responses"]["200"]["headers"]
    assert set(LIMITED) <= set(with_keys)
    assert not set(LIMITED) & set(without)


def test_operators_bounds_are_told() -> None:
    """A profile's and the operator's bounds are in the schema."""
    profile = Profile(max_tokens=7, default_temperature=0.5)
    surface = Surface(
        {"/v1": "a b"}, {"a b": profile}, RequestLimits(max_outputs=2), needs_key=False, version="1"
    )
    document = openapi_document(surface)
    OpenAPIV31SpecValidator(document).validate()
    schema = document["components"]["schemas"]["ChatCompletionRequest.a.20.b"]["properties"]
    assert schema["n"]["maximum"] == 2
    assert schema["max_tokens"]["maximum"] == 7
    assert schema["temperature"]["default"] == 0.5


def test_every_component_is_used() -> None:
    """Every component is referred to, and every reference leads to one."""
    found = set(_references(DOCUMENT))
    schemas = DOCUMENT["components"]["schemas"]
    names = {f"#/components/schemas/{name}" for name in schemas}
    headers = {f"#/components/headers/{name}" for name in DOCUMENT["components"]["headers"]}
    assert found <= names | headers
    unused = {name.rpartition("/")[2].partition(".")[0] for name in names - found}
    assert unused <= {"ChatCompletionRequest", "ChatCompletion", "ChatCompletionChunk"}


def _references(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        if isinstance(node.get("$ref"), str):
            yield node["$ref"]
        for child in node.values():
            yield from _references(child)
    elif isinstance(node, list):
        for child in node:
            yield from _references(child)

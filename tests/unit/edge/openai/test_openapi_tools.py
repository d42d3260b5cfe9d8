"""Tools, choices, formats and guides: what the document admits is taken, and nothing else."""

from typing import Any

import pytest

from bench.fuzz.schema_book import SchemaBook
from edge.openai.chat_request import RequestRules, read_chat_request
from edge.openai.fields import FIELDS
from edge.openai.openapi import Surface, openapi_document, schema_name
from edge.openai.request_limits import RequestLimits
from edge.profile_data import shipped_profiles
from headrace.rpc.errors import ServiceError

PROFILES = dict(shipped_profiles())
MOUNTS = {"/v1": "openai", "/api/v1": "lenient", "": "lenient"}
BOOK = SchemaBook(
    openapi_document(Surface(MOUNTS, PROFILES, RequestLimits(), needs_key=False, version="1"))
)
HELLO: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "some JSON"}]}
F = {"type": "function", "function": {"name": "f"}}


def _allowed(mode: Any, *tools: Any) -> dict[str, Any]:
    return {"type": "allowed_tools", "allowed_tools": {"mode": mode, "tools": [*tools]}}


TOOLS: list[dict[str, Any]] = [
    {"tools": [F, None]},
    {"tools": [F, None], "tool_choice": "none"},
    {"tools": [{"type": "function", "function": {"name": ""}}], "tool_choice": "none"},
    {"tools": [{"type": "custom", "custom": {"name": "f", "strict": None}}], "tool_choice": "none"},
    {"tools": [{"type": "what"}], "tool_choice": "none"},
    {"tools": [1], "tool_choice": "none"},
    {"tools": "x"},
    {"tools": [{}] * 129, "tool_choice": "none"},
    {"tools": [None] * 129},
    {"functions": [{"name": "f", "parameters": {}}]},
    {"functions": [{"name": "f", "parameters": {}}], "function_call": "none"},
    {"functions": [{"name": "f"}], "function_call": {"name": "f"}},
    {"functions": [{"name": "f"}], "function_call": {"name": ""}},
    {"functions": [{"name": "f"}], "function_call": {}},
    {"functions": [{"name": "f"}], "function_call": "required"},
    {"functions": [{"name": 1}], "function_call": "none"},
    {"function_call": 3},
    {"tool_choice": "auto"},
    *(
        {"tools": [F], "tool_choice": choice}
        for choice in (
            "required",
            "sometimes",
            F,
            {"type": "function"},
            {"type": "function", "function": {"name": 1}},
            {"type": "custom", "custom": {"name": "f"}},
            _allowed("auto", F),
            _allowed("required", F, F),
            _allowed("none", F),
            _allowed("auto"),
            _allowed("auto", *[F] * 129),
            _allowed("auto", {"type": "custom", "custom": {"name": "f"}}),
            [],
        )
    ),
    {"tools": [F], "parallel_tool_calls": False},
    {"tools": [F], "parallel_tool_calls": 0},
]
FORMATS: list[dict[str, Any]] = [
    *(
        {"response_format": value}
        for value in (
            {"type": "text"},
            {"type": "text", "json_schema": 1},
            {"type": "json_object"},
            {"type": "json_object", "schema": {}},
            {"type": "json_object", "schema": None},
            {"type": "json_object", "schema": 1},
            {"type": "json_schema"},
            {"type": "json_schema", "json_schema": {"name": "x", "schema": {}}},
            {"type": "json_schema", "json_schema": {"name": "x", "schema": {}, "strict": None}},
            {"type": "json_schema", "json_schema": {"name": "x"}},
            {"type": "json_schema", "json_schema": {"name": "x", "schema": None}},
            {"type": "json_schema", "json_schema": {"name": "x", "schema": True}},
            {"type": "json_schema", "json_schema": {"name": "a b", "schema": {}}},
            {"type": "json_schema", "json_schema": {"name": 1, "schema": {}}},
            {"type": "json_schema", "json_schema": {"schema": {}}},
            {"type": "json_schema", "json_schema": {"name": "x", "schema": {}, "strict": 1}},
            {"type": "json_schema", "json_schema": {"name": "x", "schema": {}, "description": 1}},
            {"type": "json_schema", "schema": {}},
            {"type": "json_schema", "json_schema": None, "schema": {}},
            {"type": "x"},
            {},
            "text",
        )
    ),
    *({"guided_json": value} for value in ({}, {"type": "object"}, '{"type":"object"}', "", 1, [])),
    *({"guided_choice": value} for value in (["a"], ["a", "a"], [], [""], ["a"] * 1025, "a")),
    *(
        {"structured_outputs": value}
        for value in (
            {},
            {"json": {}},
            {"json": "{}"},
            {"json": None, "regex": "a"},
            {"json": {}, "regex": "a"},
            {"regex": "a", "whitespace_pattern": None},
            {"regex": "a", "whitespace_pattern": "x"},
            {"choice": []},
            {"grammar": ""},
            {"json_object": True},
            {"json_object": False},
        )
    ),
    *(
        {"chat_template_kwargs": value}
        for value in (
            {},
            {"enable_thinking": True},
            {"thinking": False, "enable_thinking": None},
            {"enable_thinking": 1},
            {"other": 1},
            {"other": None},
            [],
        )
    ),
]


@pytest.mark.parametrize("profile", ["openai", "lenient"])
@pytest.mark.parametrize("fields", [*TOOLS, *FORMATS], ids=lambda fields: str(fields)[:100])
def test_taken_as_described(fields: Any, profile: str) -> None:
    """A request that the schema admits is taken, and one that it does not is refused."""
    document = {**HELLO, **fields}
    problem = BOOK.problem(schema_name("ChatCompletionRequest", profile), document)
    assert _is_taken(document, profile) == (problem is None), problem


@pytest.mark.parametrize("profile", ["openai", "lenient"])
@pytest.mark.parametrize("name", [spec.name for spec in FIELDS if spec.name not in HELLO])
def test_null_is_described(name: str, profile: str) -> None:
    """Null is absent in every field that may be."""
    problem = BOOK.problem(schema_name("ChatCompletionRequest", profile), {**HELLO, name: None})
    assert problem is None


def _is_taken(document: dict[str, Any], profile: str) -> bool:
    try:
        read_chat_request(document, RequestRules(PROFILES[profile]))
    except ServiceError:
        return False
    return True

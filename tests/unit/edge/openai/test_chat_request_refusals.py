"""How each bad body is refused: param, code and wording."""

import json
from typing import Any

import pytest

from edge.openai.chat_request import parse_chat_request
from edge.openai.messages import MAX_MESSAGES
from headrace.rpc.errors import ServiceError

USER = {"role": "user", "content": "hello"}
BASE: dict[str, Any] = {"model": "m", "messages": [USER]}


def refusal(body: bytes) -> ServiceError:
    with pytest.raises(ServiceError) as caught:
        parse_chat_request(body)
    assert caught.value.row.http_status == 400
    assert caught.value.row.openai_type == "invalid_request_error"
    return caught.value


def code_of(error: ServiceError) -> str | None:
    return error.row.openai_code if error.openai_code is None else error.openai_code


BAD_JSON = (
    b"",
    b"{",
    b"nonsense",
    b"[]",
    b'"text"',
    b"null",
    b"{'model': 'm'}",
    b'{"model": NaN}',
    b'{"model": "m", "temperature": Infinity}',
    b'{"model": "m", "temperature": 1e400}',
    b'{"model": "m", "seed": ' + b"9" * 5000 + b"}",
    b"[" * 100_000,
    b'{"a":' * 100_000,
    b'{"model": "\xff\xfe"}',
    b'{"model": "\\ud800"}',
    b'{"model": "\\udc00\\ud800"}',
    b"\xef\xbb\xbf{}",
    b"\x00",
    b'{"model": "m"} trailing',
)


@pytest.mark.parametrize(
    "extra",
    [
        b'"x": [' + b"[]," * 250_000 + b"1]",
        b'"x": [' + b'{"a":1},' * 125_000 + b"1]",
        b'"x": {' + b",".join(b'"%d":1' % number for number in range(250_000)) + b"}",
        b'"user": "' + b"[" * 250_000 + b'"',
    ],
    ids=["arrays", "objects", "keys", "text"],
)
def test_too_much_structure(extra: bytes) -> None:
    """A body of more arrays, objects and keys than a request can need is refused unparsed."""
    error = refusal(b'{"model": "m", ' + extra + b"}")

    assert (None, None) == (error.param, code_of(error))
    assert "at most 250000 are allowed" in str(error)


def test_too_many_small_entries() -> None:
    """Numbers cost little each, and a body has room for millions of them."""
    error = refusal(b'{"model": "m", "x": [' + b"1," * 500_001 + b"1]}")

    assert (None, None) == (error.param, code_of(error))
    assert "commas; at most 500000 are allowed" in str(error)


@pytest.mark.parametrize("place", ["body", "message", "stream_options"])
def test_too_many_properties(place: str) -> None:
    """No object may have more properties than anybody has a use for."""
    many = {f"k{number}": 1 for number in range(1025)}
    bodies = {
        "body": BASE | many,
        "message": BASE | {"messages": [USER | many]},
        "stream_options": BASE | {"stream": True, "stream_options": many},
    }
    error = refusal(json.dumps(bodies[place]).encode())

    assert "at most 1024" in str(error)
    assert len(str(error)) < 250


@pytest.mark.parametrize("body", BAD_JSON, ids=lambda body: repr(body[:24]))
def test_bad_json(body: bytes) -> None:
    """A body that is no JSON object is refused without a param or code, and is not quoted whole."""
    error = refusal(body)

    assert (None, None) == (error.param, code_of(error))
    assert str(error).startswith("We could not parse the JSON body of your request")
    assert len(str(error)) < 250


WRONG = (
    # (fields, param, code, part of the message)
    ({"model": None}, "model", "missing_required_parameter", "parameter: 'model'."),
    ({"messages": None}, "messages", "missing_required_parameter", "parameter: 'messages'."),
    ({"model": 1}, "model", "invalid_type", "expected a string, but got an integer instead."),
    ({"model": ""}, "model", "empty_string", "empty string"),
    ({"stream": "yes"}, "stream", "invalid_type", "expected a boolean, but got a string"),
    ({"stream": 1}, "stream", "invalid_type", "expected a boolean, but got an integer"),
    ({"temperature": "1"}, "temperature", "invalid_type", "a decimal, but got a string"),
    ({"temperature": True}, "temperature", "invalid_type", "a decimal, but got a boolean"),
    (
        {"temperature": 2.1},
        "temperature",
        "decimal_above_max_value",
        "Expected a value <= 2, but got 2.1 instead.",
    ),
    ({"temperature": -0.1}, "temperature", "decimal_below_min_value", ">= 0, but got -0.1"),
    ({"temperature": 10**30}, "temperature", "decimal_above_max_value", "<= 2, but got 1e+30"),
    ({"top_p": 1.0001}, "top_p", "decimal_above_max_value", "<= 1"),
    ({"top_p": -1}, "top_p", "decimal_below_min_value", ">= 0, but got -1"),
    ({"min_p": 1.5}, "min_p", "decimal_above_max_value", "<= 1"),
    ({"top_k": -2}, "top_k", "integer_below_min_value", ">= -1"),
    ({"top_k": 1.5}, "top_k", "invalid_type", "an integer, but got a decimal number"),
    ({"max_tokens": 0}, "max_tokens", "integer_below_min_value", ">= 1, but got 0"),
    ({"max_tokens": True}, "max_tokens", "invalid_type", "an integer, but got a boolean"),
    ({"max_tokens": 10.0}, "max_tokens", "invalid_type", "an integer, but got a decimal"),
    ({"max_tokens": "10"}, "max_tokens", "invalid_type", "an integer, but got a string"),
    ({"max_tokens": 10**30}, "max_tokens", "integer_above_max_value", "<= 4294967295"),
    ({"max_tokens": -(10**30)}, "max_tokens", "integer_below_min_value", ">= 1"),
    ({"max_tokens": 2**32}, "max_tokens", "integer_above_max_value", "got 4294967296"),
    (
        {"max_completion_tokens": 0},
        "max_completion_tokens",
        "integer_below_min_value",
        "got 0 instead",
    ),
    (
        {"max_tokens": 5, "max_completion_tokens": 5},
        "max_tokens",
        "invalid_parameter_combination",
        "Setting 'max_tokens' and 'max_completion_tokens' at the same time is not supported.",
    ),
    ({"min_tokens": -1}, "min_tokens", "integer_below_min_value", ">= 0"),
    ({"min_tokens": 6, "max_tokens": 5}, "min_tokens", "integer_above_max_value", "<= 5"),
    ({"n": 0}, "n", "integer_below_min_value", ">= 1"),
    ({"n": 129}, "n", "integer_above_max_value", "<= 128, but got 129"),
    ({"seed": 2**63}, "seed", "integer_above_max_value", "9223372036854775807"),
    ({"seed": 2**64 + 1}, "seed", "integer_above_max_value", "9223372036854775807"),
    ({"seed": "7"}, "seed", "invalid_type", "an integer, but got a string"),
    ({"stop": ""}, "stop", "empty_string", "minimum length 1"),
    ({"stop": ["a", ""]}, "stop[1]", "empty_string", "minimum length 1"),
    ({"stop": ["a", 1]}, "stop[1]", "invalid_type", "a string, but got an integer"),
    ({"stop": 5}, "stop", "invalid_type", "one of a string or array of strings"),
    (
        {"stop": list("abcde")},
        "stop",
        "array_above_max_length",
        "Expected an array with maximum length 4, but got an array with length 5 instead.",
    ),
    ({"stop_token_ids": [-1]}, "stop_token_ids[0]", "integer_below_min_value", ">= 0"),
    ({"stop_token_ids": [0] * 65}, "stop_token_ids", "array_above_max_length", "length 64"),
    ({"stop_token_ids": 3}, "stop_token_ids", "invalid_type", "an array of integers"),
    ({"ignore_eos": 1}, "ignore_eos", "invalid_type", "a boolean"),
    ({"presence_penalty": 2.5}, "presence_penalty", "decimal_above_max_value", "<= 2"),
    ({"frequency_penalty": -3}, "frequency_penalty", "decimal_below_min_value", ">= -2"),
    ({"repetition_penalty": 0}, "repetition_penalty", "decimal_below_min_value", "> 0, but got 0"),
    ({"logit_bias": []}, "logit_bias", "invalid_type", "an object, but got an array"),
    ({"logit_bias": {"1": 101}}, "logit_bias.1", "decimal_above_max_value", "<= 100"),
    ({"logit_bias": {"x": 1}}, "logit_bias", "invalid_value", "'x' is not a token id"),
    ({"logit_bias": {"²": 1}}, "logit_bias", "invalid_value", "is not a token id"),
    ({"logit_bias": {"9999999999": 1}}, "logit_bias.9999999999", "integer_above_max_value", "<="),
    (
        {"logit_bias": {str(key): 1 for key in range(301)}},
        "logit_bias",
        "object_above_max_properties",
        "at most 300",
    ),
    ({"logprobs": 3}, "logprobs", "invalid_type", "a boolean, but got an integer"),
    ({"top_logprobs": 123}, "top_logprobs", "integer_above_max_value", "<= 20, but got 123"),
    (
        {"stream_options": {"include_usage": True}},
        "stream_options",
        None,
        "The 'stream_options' parameter is only allowed when 'stream' is enabled.",
    ),
    ({"stream": True, "stream_options": []}, "stream_options", "invalid_type", "an object"),
    (
        {"stream": True, "stream_options": {"include_usage": 1}},
        "stream_options.include_usage",
        "invalid_type",
        "a boolean",
    ),
    ({"response_format": {}}, "response_format.type", "missing_required_parameter", "type"),
    ({"response_format": {"type": "x"}}, "response_format.type", "invalid_value", "'x'"),
    ({"response_format": "json"}, "response_format", "invalid_type", "an object"),
    ({"service_tier": "gold"}, "service_tier", "invalid_value", "Invalid value: 'gold'"),
    ({"user": 5}, "user", "invalid_type", "a string"),
    ({"metadata": {"a": 1}}, "metadata.a", "invalid_type", "a string"),
    (
        {"metadata": {str(key): "v" for key in range(17)}},
        "metadata",
        "object_above_max_properties",
        "at most 16",
    ),
    ({"metadata": {"k" * 65: "v"}}, "metadata", "string_above_max_length", "length 64"),
    ({"messages": {}}, "messages", "invalid_type", "an array of objects, but got an object"),
    ({"messages": "hi"}, "messages", "invalid_type", "an array of objects, but got a string"),
    ({"messages": []}, "messages", "empty_array", "Invalid 'messages': empty array."),
    (
        {"messages": [USER] * (MAX_MESSAGES + 1)},
        "messages",
        "array_above_max_length",
        "maximum length 2048",
    ),
    ({"messages": [USER, "x"]}, "messages[1]", "invalid_type", "an object, but got a string"),
    ({"messages": [{"content": "x"}]}, "messages[0].role", "missing_required_parameter", "role"),
    (
        {"messages": [{"role": "robot", "content": "x"}]},
        "messages[0].role",
        "invalid_value",
        "Invalid value: 'robot'. Supported values are: 'system',",
    ),
    ({"messages": [{"role": "user"}]}, "messages[0].content", "missing_required_parameter", ""),
    (
        {"messages": [{"role": "user", "content": None}]},
        "messages[0].content",
        "invalid_type",
        "one of a string or array of objects, but got null",
    ),
    (
        {"messages": [{"role": "assistant", "content": None}]},
        "messages[0].content",
        "invalid_type",
        "null",
    ),
    ({"messages": [{"role": "user", "content": 1}]}, "messages[0].content", "invalid_type", ""),
    ({"messages": [{"role": "user", "content": []}]}, "messages[0].content", "empty_array", ""),
    (
        {"messages": [{"role": "user", "content": [{"text": "x"}]}]},
        "messages[0].content[0].type",
        "missing_required_parameter",
        "",
    ),
    (
        {"messages": [{"role": "user", "content": [{"type": "text"}]}]},
        "messages[0].content[0].text",
        "missing_required_parameter",
        "",
    ),
    (
        {"messages": [{"role": "user", "content": [{"type": "text", "text": 4}]}]},
        "messages[0].content[0].text",
        "invalid_type",
        "",
    ),
    (
        {"messages": [{"role": "user", "content": [{"type": "hologram"}]}]},
        "messages[0].content[0].type",
        "invalid_value",
        "hologram",
    ),
    (
        {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]},
        "messages[0].content[0].type",
        "unsupported_value",
        "'image_url'",
    ),
    (
        {"messages": [{"role": "user", "content": [{"type": "refusal", "refusal": "no"}]}]},
        "messages[0].content[0].type",
        "unsupported_value",
        "'refusal'",
    ),
    (
        {"messages": [USER, {"role": "tool", "content": "x", "tool_call_id": "c"}]},
        "messages.[1].role",
        None,
        "must be a response to a preceeding message with 'tool_calls'.",
    ),
    (
        {"messages": [{"role": "assistant", "content": None, "tool_calls": [{"id": "c"}]}]},
        "messages[0].tool_calls[0].type",
        "missing_required_parameter",
        "'messages[0].tool_calls[0].type'",
    ),
    (
        {"messages": [{"role": "user", "content": "x", "name": "a b"}]},
        "messages[0].name",
        "invalid_value",
        "string does not match pattern",
    ),
    (
        {"messages": [{"role": "user", "content": "x", "name": "a" * 65}]},
        "messages[0].name",
        "string_above_max_length",
        "maximum length 64, but got a string with length 65",
    ),
)


@pytest.mark.parametrize(
    ("fields", "param", "code", "part"), WRONG, ids=[f"{w[1]}-{w[2]}" for w in WRONG]
)
def test_wrong_value(fields: dict[str, Any], param: str, code: str | None, part: str) -> None:
    """Each bad value is refused with OpenAI's param, code and wording."""
    error = refusal(json.dumps({**BASE, **fields}).encode())

    assert (param, code) == (error.param, code_of(error))
    assert part in str(error)

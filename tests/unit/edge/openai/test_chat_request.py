"""What a chat request's body may hold, and how each bad one is refused."""

import dataclasses
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.openai.chat_request import ChatRequest, RequestRules, parse_chat_request
from edge.openai.content_guides import GUIDE_FIELDS
from edge.openai.fields import FIELDS, Use
from edge.openai.model_fit import fit_to_model
from edge.openai.thinking import THINKING_FIELDS
from edge.openai.tools import TOOL_FIELDS
from headrace.client.prompt_request import ChatMessage
from headrace.rpc.errors import ServiceError
from tests.support.fake_backend import MODEL

USER = {"role": "user", "content": "hello"}
BASE: dict[str, Any] = {"model": "m", "messages": [USER]}
RULES = RequestRules()


def parse(**fields: Any) -> ChatRequest:
    return parse_chat_request(json.dumps({**BASE, **fields}).encode())


def refusal(body: bytes) -> ServiceError:
    with pytest.raises(ServiceError) as caught:
        parse_chat_request(body)
    assert caught.value.row.http_status == 400
    assert caught.value.row.openai_type == "invalid_request_error"
    return caught.value


def refusal_of(**fields: Any) -> ServiceError:
    return refusal(json.dumps({**BASE, **fields}).encode())


def code_of(error: ServiceError) -> str | None:
    return error.row.openai_code if error.openai_code is None else error.openai_code


def test_minimal() -> None:
    """Model and messages are enough; everything else is not asked for."""
    expected = ChatRequest(model="m", messages=(ChatMessage("user", "hello"),))

    assert expected == parse()


def test_all_carried() -> None:
    """Every carried field arrives with its value."""
    actual = parse(
        stream=True,
        stream_options={"include_usage": True},
        max_completion_tokens=7,
        min_tokens=2,
        n=3,
        stop=["a", "b"],
        stop_token_ids=[5, 0],
        ignore_eos=True,
        temperature=0,
        top_p=0,
        top_k=40,
        min_p=0.5,
        seed=-(2**63),
        presence_penalty=-2,
        frequency_penalty=2,
        repetition_penalty=1.5,
        logit_bias={"7": -100, "8": 0},
        logprobs=True,
        top_logprobs=5,
        user="u-1",
        safety_identifier="s",
        metadata={"a": "b", "c": "d"},
    )

    expected = ChatRequest(
        model="m",
        messages=(ChatMessage("user", "hello"),),
        stream=True,
        include_usage=True,
        max_tokens=7,
        min_tokens=2,
        n=3,
        stop=("a", "b"),
        stop_token_ids=(5, 0),
        ignore_eos=True,
        temperature=0.0,
        top_p=0.0,
        top_k=40,
        min_p=0.5,
        seed=-(2**63),
        presence_penalty=-2.0,
        frequency_penalty=2.0,
        repetition_penalty=1.5,
        logit_bias=((7, -100.0),),
        logprobs=5,
        user="u-1",
        safety_identifier="s",
        num_metadata=2,
    )
    assert expected == actual


@pytest.mark.parametrize("name", [spec.name for spec in FIELDS if spec.name not in BASE])
def test_null_is_absent(name: str) -> None:
    """An explicit null of any optional field asks for nothing and is not reported."""
    assert parse() == parse(**{name: None})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("n", 1),
        ("temperature", 1),
        ("top_p", 1.0),
        ("top_k", 0),
        ("top_k", -1),
        ("min_p", 0),
        ("min_tokens", 0),
        ("stop", []),
        ("stop_token_ids", []),
        ("ignore_eos", False),
        ("presence_penalty", 0),
        ("frequency_penalty", 0.0),
        ("repetition_penalty", 1),
        ("logit_bias", {}),
        ("logit_bias", {"3": 0}),
        ("logprobs", False),
        ("top_logprobs", 0),
        ("response_format", {"type": "text"}),
        ("tools", []),
        ("tools", [None]),
        ("tool_choice", "none"),
        ("tool_choice", "auto"),
        ("functions", []),
        ("function_call", "none"),
        ("modalities", ["text"]),
        ("verbosity", "medium"),
        ("metadata", {}),
        ("store", False),
        ("service_tier", "auto"),
    ],
)
def test_neutral(name: str, value: Any) -> None:
    """A value that says what is the case anyway asks for nothing."""
    assert parse() == parse(**{name: value})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("prompt_cache_key", "k"),
        ("prompt_cache_retention", "24h"),
        ("prompt_cache_options", {"mode": "explicit"}),
        ("service_tier", "flex"),
        ("prediction", {"type": "content", "content": "x"}),
        ("not_a_field", {"a": [1]}),
    ],
)
def test_without_effect(name: str, value: Any) -> None:
    """Hints, labels and unknown fields are taken and reported."""
    assert dataclasses.replace(parse(), ignored=(name,)) == parse(**{name: value})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("moderation", {"model": "m"}),
        ("modalities", ["text", "audio"]),
        ("audio", {"format": "mp3", "voice": "alloy"}),
        ("reasoning_effort", "high"),
        ("verbosity", "low"),
        ("web_search_options", {}),
    ],
)
def test_unsupported_parameter(name: str, value: Any) -> None:
    """What would change the answer and is not built is refused by name."""
    error = refusal_of(**{name: value})

    assert (name, "unsupported_parameter") == (error.param, code_of(error))
    assert str(error).startswith(f"Unsupported parameter: '{name}'")


def test_parts_are_joined() -> None:
    """Text parts are one text, with nothing between them."""
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]

    actual = parse(messages=[{"role": "system", "content": parts, "name": "ops"}])

    assert (ChatMessage("system", "ab", "ops"),) == actual.messages


def test_own_answer_as_history() -> None:
    """A message as the API returned it can be sent back, its empty extras included."""
    message = {
        "role": "assistant",
        "content": "",
        "refusal": None,
        "annotations": [],
        "audio": None,
        "function_call": None,
        "tool_calls": None,
        "reasoning_content": "thought",
    }

    actual = parse(messages=[message])

    assert (ChatMessage("assistant", "", reasoning_content="thought"),) == actual.messages
    assert ("messages[].annotations",) == actual.ignored


def test_stream_options_empty() -> None:
    """An empty stream_options asks for no usage; only asking for obfuscation is without effect."""
    assert not parse(stream=True, stream_options={}).include_usage
    for is_asked in (True, False):
        options = {"include_obfuscation": is_asked}
        actual = parse(stream=True, stream_options=options)
        assert (("stream_options.include_obfuscation",) if is_asked else ()) == actual.ignored


@pytest.mark.parametrize("spec", [s for s in FIELDS if s.honoured_as], ids=lambda spec: spec.name)
def test_not_honoured(spec: Any) -> None:
    """A field that the model's workers do not list is refused by its own name."""
    values = {
        "ignore_eos": True,
        "stop_token_ids": [1],
        "logit_bias": {"1": 1},
        "logprobs": True,
    }
    request = parse(**{spec.name: values.get(spec.name, 0.5 if "_p" in spec.name[-2:] else 2)})
    none = dataclasses.replace(MODEL, honoured_fields=frozenset())
    some = dataclasses.replace(MODEL, honoured_fields=frozenset([spec.honoured_as]))

    fit_to_model(request, some, RULES)
    with pytest.raises(ServiceError) as caught:
        fit_to_model(request, none, RULES)
    assert (spec.name, "unsupported_parameter") == (caught.value.param, code_of(caught.value))


def test_plain_request_needs_nothing() -> None:
    """A request without options is taken by a worker that honours nothing."""
    model = dataclasses.replace(MODEL, honoured_fields=frozenset())

    assert parse() == fit_to_model(parse(), model, RULES)


def test_too_many_outputs() -> None:
    """N above the model's bound is refused by name."""
    with pytest.raises(ServiceError) as caught:
        fit_to_model(parse(n=5), MODEL, RULES)

    assert ("n", "integer_above_max_value") == (caught.value.param, code_of(caught.value))
    assert "<= 4, but got 5" in str(caught.value)


def test_table_is_whole() -> None:
    """Every carried field has a place in ChatRequest; no name occurs twice."""
    names = [spec.name for spec in FIELDS]
    places = {field.name for field in dataclasses.fields(ChatRequest)}
    settled = {
        *("stream_options", "max_completion_tokens", "top_logprobs", "metadata"),
        *(*TOOL_FIELDS, *GUIDE_FIELDS, *THINKING_FIELDS),
    }

    assert len(names) == len(set(names))
    carried = {spec.name for spec in FIELDS if spec.use is Use.CARRIED}
    assert carried - settled <= places


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=6,
)
NAMES = st.sampled_from([spec.name for spec in FIELDS])


@given(st.dictionaries(NAMES, JSON, max_size=4))
def test_any_value_is_taken_or_refused(fields: dict[str, Any]) -> None:
    """Whatever JSON stands in a known field, the result is a request or a refusal by name."""
    try:
        parse(**fields)
    except ServiceError as error:
        status = error.row.http_status
    else:
        status = 400

    assert status == 400


@given(st.binary(max_size=64))
def test_any_bytes_are_refused(body: bytes) -> None:
    """Random bytes never do more than fail."""
    with pytest.raises(ServiceError):
        parse_chat_request(body)

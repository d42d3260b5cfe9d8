"""A request against its model and the operator's bounds: refused, or made to fit and told."""

import dataclasses
import json
from typing import Any

import pytest

from edge.openai.chat_request import RequestRules, parse_chat_request
from edge.openai.fields import FIELDS
from edge.openai.model_fit import check_guide, fit_to_model
from edge.openai.request_limits import RequestLimits
from headrace.rpc.errors import ServiceError
from headrace.worker.v1.generation_pb2 import Guide
from tests.support.chat_requests import BASE, PROFILES, WHOLE, code_of, parsed
from tests.support.fake_backend import MODEL


@pytest.mark.wire("A3.n", "E18")
@pytest.mark.parametrize(
    ("fields", "limits", "most"),
    [
        ({"max_tokens": 123}, {"max_total_tokens": 1230}, 10),
        ({}, {"max_total_tokens": 3 * MODEL.context_length}, 3),
        ({"max_tokens": 500}, {"max_total_tokens": 100}, 1),
        (
            {"max_tokens": 5, "logprobs": True, "top_logprobs": 20},
            {"max_total_top_logprobs": 80},
            4,
        ),
        ({"max_tokens": 5}, {"max_outputs": 6}, 6),
    ],
)
def test_limits_of_n(fields: dict[str, Any], limits: dict[str, int], most: int) -> None:
    """The operator's products bound n: strict refuses it, lenient takes fewer."""
    body = json.dumps({**BASE, **fields, "n": 123}).encode()
    strict = RequestRules(PROFILES["openai"], RequestLimits(**limits))
    lenient = RequestRules(PROFILES["lenient"], RequestLimits(**limits))

    fitted = fit_to_model(parse_chat_request(body, lenient), WHOLE, lenient)
    with pytest.raises(ServiceError) as caught:
        fit_to_model(parse_chat_request(body, strict), WHOLE, strict)

    assert (most, (("n", most),)) == (fitted.n, fitted.clamped)
    assert ("n", "integer_above_max_value") == (caught.value.param, code_of(caught.value))
    assert f"<= {most}" in caught.value.message


def test_more_logprobs_than_the_model_gives() -> None:
    """Strict refuses, lenient takes what there is."""
    model = dataclasses.replace(WHOLE, max_logprobs=5)
    fields = {"logprobs": True, "top_logprobs": 9}
    rules = RequestRules(PROFILES["lenient"])

    fitted = fit_to_model(parsed(**fields), model, rules)

    assert (5, (("top_logprobs", 5),)) == (fitted.logprobs, fitted.clamped)
    with pytest.raises(ServiceError) as caught:
        fit_to_model(parsed("openai", **fields), model, RequestRules())
    assert caught.value.param == "top_logprobs"


def test_too_many_biases() -> None:
    """The operator's bound on biases is kept in every profile: none is left out."""
    rules = RequestRules(PROFILES["lenient"], RequestLimits(max_logit_bias_entries=1))
    request = parsed(logit_bias={"1": 1, "2": 1})

    with pytest.raises(ServiceError) as caught:
        fit_to_model(request, WHOLE, rules)
    assert caught.value.param == "logit_bias"


DROPPED = [spec for spec in FIELDS if spec.is_droppable]
KEPT = [spec for spec in FIELDS if spec.is_optional and not spec.is_droppable]
VALUES: dict[str, Any] = {"logit_bias": {"1": 1}, "logprobs": True, "seed": 3, "top_k": 5}


@pytest.mark.parametrize("spec", DROPPED, ids=lambda spec: spec.name)
def test_lenient_drops_what_the_model_lacks(spec: Any) -> None:
    """A sampling field that no worker honours is left out and named."""
    model = dataclasses.replace(WHOLE, honoured_fields=frozenset())
    request = parsed(**{spec.name: VALUES.get(spec.name, 0.5)})

    fitted = fit_to_model(request, model, RequestRules(PROFILES["lenient"]))

    assert getattr(request, spec.name) is not None
    assert (None, (spec.name,)) == (getattr(fitted, spec.name), fitted.ignored)


@pytest.mark.parametrize("spec", KEPT, ids=lambda spec: spec.name)
def test_lenient_keeps_what_ends_an_answer(spec: Any) -> None:
    """What decides where an answer ends is never left out."""
    values: dict[str, Any] = {"min_tokens": 2, "stop_token_ids": [1], "ignore_eos": True}
    model = dataclasses.replace(WHOLE, honoured_fields=frozenset())

    with pytest.raises(ServiceError) as caught:
        fit_to_model(
            parsed(**{spec.name: values[spec.name]}), model, RequestRules(PROFILES["lenient"])
        )
    assert caught.value.param == spec.name


def test_defaults_that_the_model_lacks() -> None:
    """A profile's own default is no reason to refuse: it is left out and named."""
    model = dataclasses.replace(WHOLE, honoured_fields=frozenset())
    rules = RequestRules(PROFILES["polargrid"])

    fitted = fit_to_model(parsed("polargrid"), model, rules)

    assert ("temperature", "top_p") == fitted.ignored
    with pytest.raises(ServiceError):
        fit_to_model(parsed("polargrid", temperature=0.7), model, rules)


TOOL = {"type": "function", "function": {"name": "f"}}
STRICT_TOOL = {"type": "function", "function": {"name": "f", "strict": True}}
ALLOWED = {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": [TOOL]}}
FORMAT = {"type": "json_schema", "json_schema": {"name": "x", "schema": {}}}


@pytest.mark.parametrize("profile", ["openai", "lenient"])
@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"tools": [TOOL], "tool_choice": "required"}, "tool_choice"),
        ({"tools": [TOOL], "tool_choice": TOOL}, "tool_choice"),
        ({"tools": [TOOL], "tool_choice": ALLOWED}, "tool_choice"),
        ({"tools": [TOOL], "parallel_tool_calls": False}, "parallel_tool_calls"),
        ({"tools": [STRICT_TOOL], "parallel_tool_calls": False}, "tools"),
        ({"tools": [STRICT_TOOL]}, "tools"),
        ({"tools": [TOOL], "response_format": FORMAT}, "response_format"),
        ({"functions": [{"name": "f"}], "function_call": {"name": "f"}}, "function_call"),
        ({"functions": [{"name": "f"}]}, "functions"),
        ({"response_format": FORMAT}, "response_format"),
        ({"guided_regex": "a"}, "guided_regex"),
    ],
)
def test_guides_that_the_model_lacks(profile: str, fields: Any, param: str) -> None:
    """A guide is never left out: what asked for it is named, also by lenient profiles."""
    request = parsed(profile, **fields)
    guide = Guide(grammar="start: /a/")

    with pytest.raises(ServiceError) as caught:
        check_guide(guide, WHOLE, request)

    assert (param, "unsupported_parameter") == (caught.value.param, code_of(caught.value))
    able = dataclasses.replace(WHOLE, honoured_fields=frozenset(("guide.grammar",)))
    check_guide(guide, able, request)
    with pytest.raises(ServiceError):
        check_guide(Guide(regex="a"), able, request)


def test_no_guide_needs_nothing() -> None:
    """Where nothing is restricted, any model will do."""
    check_guide(None, WHOLE, parsed(tools=[TOOL]))
    check_guide(Guide(), WHOLE, parsed())

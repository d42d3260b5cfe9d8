"""A validated request against the model that shall answer it, and the operator's bounds."""

from dataclasses import replace
from typing import Any

from edge.openai import problems
from edge.openai.chat_request import ChatRequest, RequestRules
from edge.openai.fields import FIELDS
from headrace.client.answers import ServedModel
from headrace.worker.v1.generation_pb2 import Guide

_MODEL_SPECS = tuple(spec for spec in FIELDS if spec.is_optional)


def fit_to_model(request: ChatRequest, model: ServedModel, rules: RequestRules) -> ChatRequest:
    """The request as the model's workers can serve it.

    Strict: raises ServiceError (unsupported_parameter, or invalid_request for a number) for what
    they do not honour. Lenient: sampling fields are left out, numbers reduced, both told.
    """
    request = _without_unsupported(request, model, rules)
    request = _with_fewer_biases(request, rules)
    request = _with_fewer_logprobs(request, model, rules)
    return _with_fewer_outputs(request, model, rules)


def check_guide(guide: Guide | None, model: ServedModel, chat: ChatRequest) -> None:
    """Refuse a guide that the model's workers cannot follow, in every profile.

    `guide` is what rendering gave. Raises ServiceError (unsupported_parameter) that names what in
    the request asked for it: without the guide the answer would be another.
    """
    kind = None if guide is None else guide.WhichOneof("kind")
    if kind is not None and f"guide.{kind}" not in model.honoured_fields:
        raise problems.unsupported_parameter(_guided_by(chat))


def _guided_by(chat: ChatRequest) -> str:
    """The field without which there would be no guide."""
    is_older, choice = chat.shape.calls_as == "functions", chat.tool_choice
    if chat.tools and (choice.required or choice.allowed_names):
        return "function_call" if is_older else "tool_choice"
    if chat.content_guide is not None:
        return chat.content_guide_param
    if is_older:
        return "functions"
    strict = any(tool.strict for tool in chat.tools)
    return "parallel_tool_calls" if choice.single_call and not strict else "tools"


def _without_unsupported(
    request: ChatRequest, model: ServedModel, rules: RequestRules
) -> ChatRequest:
    dropped: list[str] = []
    for spec in _MODEL_SPECS:
        name = spec.name
        if getattr(request, name) is None or spec.honoured_as in model.honoured_fields:
            continue
        is_lenient = spec.is_droppable and not rules.profile.strict
        if not is_lenient and name not in request.assumed:
            raise problems.unsupported_parameter(name)
        dropped.append(name)
    if not dropped:
        return request
    nothing: dict[str, Any] = dict.fromkeys(dropped)
    return replace(
        request, **nothing, ignored=tuple(sorted(frozenset((*request.ignored, *dropped))))
    )


def _with_fewer_biases(request: ChatRequest, rules: RequestRules) -> ChatRequest:
    """No bias is left out: which one would be as good as drawn by lot."""
    most = rules.limits.max_logit_bias_entries
    if request.logit_bias is not None and len(request.logit_bias) > most:
        raise problems.object_too_large("logit_bias", most, len(request.logit_bias))
    return request


def _with_fewer_logprobs(
    request: ChatRequest, model: ServedModel, rules: RequestRules
) -> ChatRequest:
    if request.logprobs is None or request.logprobs <= model.max_logprobs:
        return request
    if rules.profile.strict:
        raise problems.above_maximum(
            "top_logprobs", "integer", model.max_logprobs, request.logprobs
        )
    return _clamped(request, "top_logprobs", "logprobs", model.max_logprobs)


def _with_fewer_outputs(
    request: ChatRequest, model: ServedModel, rules: RequestRules
) -> ChatRequest:
    """`n` within the worker's bound, and within the products that the operator allows."""
    if request.n is None:
        return request
    limits = rules.limits
    tokens = request.max_tokens or model.context_length
    bounds = {
        "": min(limits.max_outputs, model.max_outputs),
        f" of up to {tokens} tokens each": max(1, limits.max_total_tokens // tokens),
    }
    if request.logprobs:
        most_logprobs = max(1, limits.max_total_top_logprobs // request.logprobs)
        bounds[f" with {request.logprobs} top_logprobs each"] = most_logprobs
    reason, most = min(bounds.items(), key=lambda item: item[1])
    if request.n <= most:
        return request
    if rules.profile.strict:
        raise problems.too_many_outputs(most, request.n, reason)
    return _clamped(request, "n", "n", most)


def _clamped(request: ChatRequest, told: str, name: str, value: int) -> ChatRequest:
    """`name` reduced, and told under the name that the caller knows."""
    clamped = {**dict(request.clamped), told: value}
    changes: dict[str, Any] = {name: value, "clamped": tuple(sorted(clamped.items()))}
    return replace(request, **changes)

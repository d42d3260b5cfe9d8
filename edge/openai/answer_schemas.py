"""JSON Schemas of answers under a profile: completion, chunk, usage, log probabilities, models.

Objects are closed and whole: a key that an answer has and its schema lacks is a fault of either.
"""

from typing import get_args

from edge.openai.checks import Schema
from edge.openai.finish import FinishReason
from edge.openai.logprobs import LEAST_LOGPROB
from edge.openai.profile import Profile

_COUNT: Schema = {"type": "integer", "minimum": 0}
_NULL: Schema = {"type": "null"}
_TEXT: Schema = {"type": "string"}
_EMPTY: Schema = {"type": "object", "maxProperties": 0}
_FINISHES = list(get_args(FinishReason))
_LOGPROBS = "ChoiceLogprobs"
_CALL = "ToolCall"
_CALL_DELTA = "ToolCallDelta"
_FUNCTION = "FunctionCall"
_FUNCTION_DELTA = "FunctionCallDelta"
_CALL_ID: Schema = {"type": "string", "pattern": "^call_[a-zA-Z0-9]{24}$"}


def usage_schema(profile: Profile) -> Schema:
    """Token counts, with what the profile's clients read beside OpenAI's."""
    details = {
        "reasoning_tokens": _COUNT,
        "audio_tokens": _COUNT,
        "accepted_prediction_tokens": _COUNT,
        "rejected_prediction_tokens": _COUNT,
    }
    extras: dict[str, Schema] = {}
    if "cached_tokens" in profile.usage_extras:
        extras["cached_tokens"] = _COUNT
    if "prompt_cache_tokens" in profile.usage_extras:
        extras["prompt_cache_hit_tokens"] = _COUNT
        extras["prompt_cache_miss_tokens"] = _COUNT
    if "text_tokens" in profile.usage_extras:
        details["text_tokens"] = _COUNT
    if "criteria" in profile.usage_extras:
        extras["criteria"] = _EMPTY
    return _closed(
        {
            "prompt_tokens": _COUNT,
            "completion_tokens": _COUNT,
            "total_tokens": _COUNT,
            "prompt_tokens_details": _closed({"cached_tokens": _COUNT, "audio_tokens": _COUNT}),
            "completion_tokens_details": _closed(details),
            **extras,
        }
    )


def completion_schema(profile: Profile, usage: Schema) -> Schema:
    """A whole answer; `usage` is the schema of its usage, or a reference to it."""
    calls = {"type": "array", "minItems": 1, "items": reference(_CALL)}
    told: dict[str, Schema] = {
        "tool_calls": calls,
        "function_call": reference(_FUNCTION),
        "reasoning_content": _TEXT,
    }
    message = _closed(
        {
            "role": {"const": "assistant"},
            "content": _or_null(_TEXT),
            **told,
            "refusal": _NULL,
            "annotations": {"type": "array", "maxItems": 0},
            **{name: _or_null(told[name]) for name in profile.message_extras},
        },
        optional=tuple(name for name in told if name not in profile.message_extras),
    )
    choice = _closed(
        {
            "index": _COUNT,
            "message": message,
            "logprobs": _or_null(reference(_LOGPROBS)),
            "finish_reason": {"enum": _FINISHES},
            **dict.fromkeys(profile.choice_extras, _EMPTY),
        }
    )
    choices = {"type": "array", "minItems": 1, "items": choice}
    return _closed({**_identity("chat.completion"), "choices": choices, "usage": usage})


def chunk_schema(usage: Schema) -> Schema:
    """One event of a streamed answer; `usage` is there where it was asked for."""
    told: dict[str, Schema] = {
        "role": {"const": "assistant"},
        "content": _or_null(_TEXT),
        "tool_calls": {
            "type": "array",
            "minItems": 1,
            "maxItems": 1,
            "items": reference(_CALL_DELTA),
        },
        "function_call": reference(_FUNCTION_DELTA),
        "reasoning_content": _TEXT,
        "refusal": _NULL,
    }
    delta = _closed(told, optional=tuple(told))
    choice = _closed(
        {
            "index": _COUNT,
            "delta": delta,
            "logprobs": _or_null(reference(_LOGPROBS)),
            "finish_reason": {"enum": [*_FINISHES, None]},
        }
    )
    choices = {"type": "array", "maxItems": 1, "items": choice}
    properties = {
        **_identity("chat.completion.chunk"),
        "choices": choices,
        "usage": _or_null(usage),
    }
    return _closed(properties, optional=("usage",))


def shared_schemas() -> dict[str, Schema]:
    """Schemas by name that are the same under every profile."""
    said: dict[str, Schema] = {
        "token": _TEXT,
        "logprob": {"type": "number", "minimum": LEAST_LOGPROB},
        "bytes": {
            "type": "array",
            "items": {"type": "integer", "minimum": 0, "maximum": 255},
        },
    }
    top = {"type": "array", "items": _closed(said)}
    entry = _closed({**said, "top_logprobs": top})
    content = {"type": "array", "items": entry}
    model: dict[str, Schema] = {
        "id": _TEXT,
        "object": {"const": "model"},
        "created": _COUNT,
        "owned_by": _TEXT,
    }
    models: dict[str, Schema] = {
        "object": {"const": "list"},
        "data": {"type": "array", "items": reference("Model")},
    }
    return {
        **_call_schemas(),
        _LOGPROBS: _closed({"content": content, "refusal": _NULL}),
        "Model": _closed(model),
        "ModelList": _closed(models),
    }


def _call_schemas() -> dict[str, Schema]:
    """Calls whole and streamed, where all but the index and the arguments come once."""
    function: dict[str, Schema] = {"name": _TEXT, "arguments": _TEXT}
    kind: Schema = {"const": "function"}
    call = {"id": _CALL_ID, "type": kind, "function": reference(_FUNCTION)}
    first = {"index": _COUNT, **call, "function": _closed(function)}
    later = {"index": _COUNT, "function": _closed({"arguments": _TEXT})}
    return {
        _FUNCTION: _closed(function),
        _FUNCTION_DELTA: _closed(function, optional=("name",)),
        _CALL: _closed(call),
        _CALL_DELTA: {"oneOf": [_closed(first), _closed(later)]},
    }


def reference(name: str) -> Schema:
    """A reference to a schema among the document's components."""
    return {"$ref": f"#/components/schemas/{name}"}


def _identity(kind: str) -> dict[str, Schema]:
    return {
        "id": {"type": "string", "pattern": "^chatcmpl-"},
        "object": {"const": kind},
        "created": _COUNT,
        "model": _TEXT,
        "service_tier": {"const": "default"},
        "system_fingerprint": {"type": ["string", "null"]},
    }


def _closed(properties: dict[str, Schema], *, optional: tuple[str, ...] = ()) -> Schema:
    return {
        "type": "object",
        "properties": properties,
        "required": [name for name in properties if name not in optional],
        "additionalProperties": False,
    }


def _or_null(schema: Schema) -> Schema:
    return {"anyOf": [schema, _NULL]}

"""JSON Schemas of answers under a profile: completion, chunk, usage, log probabilities, models.

Objects are closed and whole: a key that an answer has and its schema lacks is a fault of either.
"""

from typing import get_args

from edge.openai.checks import Schema
from edge.openai.logprobs import LEAST_LOGPROB
from edge.openai.profile import Profile
from headrace.client.answers import Finish

_COUNT: Schema = {"type": "integer", "minimum": 0}
_NULL: Schema = {"type": "null"}
_TEXT: Schema = {"type": "string"}
_EMPTY: Schema = {"type": "object", "maxProperties": 0}
_FINISHES = list(get_args(Finish))
_LOGPROBS = "ChoiceLogprobs"


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
    message = _closed(
        {
            "role": {"const": "assistant"},
            "content": _TEXT,
            "refusal": _NULL,
            "annotations": {"type": "array", "maxItems": 0},
            **dict.fromkeys(profile.message_extras, _NULL),
        }
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
    delta = _closed(
        {"role": {"const": "assistant"}, "content": _TEXT, "refusal": _NULL},
        optional=("role", "content", "refusal"),
    )
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
        _LOGPROBS: _closed({"content": content, "refusal": _NULL}),
        "Model": _closed(model),
        "ModelList": _closed(models),
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

"""The OpenAPI 3.1 document of the edge's HTTP surface, built from the tables that serve it.

Each mount is described by the profile that its path gives; where a key, a Host or an alias gives
another, the answers are those of the schema that is named after that one.
"""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any

import orjson

from edge.openai.answer_schemas import (
    chunk_schema,
    completion_schema,
    reference,
    shared_schemas,
    usage_schema,
)
from edge.openai.checks import Schema
from edge.openai.error_schemas import (
    NEVER_ANSWERED,
    describe,
    envelope_schema,
    header_names,
    reasons_by_status,
)
from edge.openai.message_schemas import messages_schema
from edge.openai.openapi_headers import (
    EVERYWHERE,
    HEADERS,
    LIMITED,
    TOLD,
    TRACED,
    header_references,
)
from edge.openai.profile import Profile
from edge.openai.request_limits import RequestLimits
from edge.openai.request_schemas import messages_name, request_schema
from headrace.common.v1 import errors_pb2
from headrace.rpc.errors import ERROR_TABLE, Reason

JSON_TYPE = "application/json"
EVENTS_TYPE = "text/event-stream"
METRICS_TYPE = "text/plain"
_ENVELOPE = "ErrorEnvelope"
_E = errors_pb2
_CHAT_REASONS = ERROR_TABLE.keys() - NEVER_ANSWERED - {_E.ERROR_REASON_METHOD_NOT_ALLOWED}
_LOOKUP_REASONS = frozenset((_E.ERROR_REASON_MODEL_NOT_FOUND, _E.ERROR_REASON_NO_WORKER_AVAILABLE))
_READY_REASONS = frozenset((_E.ERROR_REASON_DRAINING, _E.ERROR_REASON_NO_WORKER_AVAILABLE))
_KEY_REASONS = frozenset((_E.ERROR_REASON_INVALID_API_KEY,))
_NO_SECURITY: list[dict[str, list[str]]] = []


@dataclass(frozen=True, slots=True)
class Surface:
    """What an edge serves: the profile's name by path prefix, all profiles, bounds, keys or not."""

    mounts: Mapping[str, str]
    profiles: Mapping[str, Profile]
    limits: RequestLimits
    needs_key: bool
    version: str


def build_openapi(surface: Surface) -> bytes:
    """The document as JSON."""
    return orjson.dumps(openapi_document(surface))


def openapi_document(surface: Surface) -> dict[str, Any]:
    """The document."""
    document: dict[str, Any] = {
        "openapi": "3.1.1",
        "info": {
            "title": "Headrace",
            "version": surface.version,
            "description": "Chat completions as OpenAI's clients expect them. A path has the "
            "profile that its operation names, unless the caller's key, the Host or the model's "
            "alias gives another. Every other path answers 404, every other method 405, in the "
            "same envelope.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "paths": _paths(surface),
        "components": {
            "schemas": _schemas(surface),
            "headers": {name: dict(header) for name, header in HEADERS.items()},
        },
    }
    if surface.needs_key:
        document["components"]["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
        document["security"] = [{"key": []}]
    return document


def schema_name(kind: str, profile: str) -> str:
    """The name of a profile's schema; characters that no name may have are spelt as numbers."""
    safe = re.sub(r"[^a-zA-Z0-9_-]", lambda found: f".{ord(found[0]):x}.", profile)
    return f"{kind}.{safe}"


def _schemas(surface: Surface) -> dict[str, Schema]:
    schemas = {**shared_schemas(), _ENVELOPE: envelope_schema()}
    for strict in (True, False):
        schemas[messages_name(strict=strict)] = messages_schema(strict=strict)
    for name, profile in surface.profiles.items():
        usage = schema_name("Usage", name)
        schemas[usage] = usage_schema(profile)
        request = request_schema(profile, surface.limits)
        schemas[schema_name("ChatCompletionRequest", name)] = request
        completion = completion_schema(profile, reference(usage))
        schemas[schema_name("ChatCompletion", name)] = completion
        schemas[schema_name("ChatCompletionChunk", name)] = chunk_schema(reference(usage))
    return schemas


def _paths(surface: Surface) -> dict[str, Any]:
    paths: dict[str, Any] = {}
    for prefix, profile in surface.mounts.items():
        paths[f"{prefix}/chat/completions"] = {"post": _chat(surface, profile)}
        paths[f"{prefix}/models"] = _readable(
            surface, "Models that the caller may ask for.", _json(reference("ModelList"))
        )
        lookup = _readable(
            surface, "One of them.", _json(reference("Model")), reasons=_LOOKUP_REASONS
        )
        paths[f"{prefix}/models/{{name}}"] = {"parameters": [_model_name()], **lookup}
    document = _json({"type": "object", "required": ["openapi", "paths"]})
    paths["/openapi.json"] = _readable(surface, "This document.", document, headers=("ETag",))
    for operation in paths["/openapi.json"].values():
        operation["responses"]["304"] = {
            "description": "It is still the one of `If-None-Match`.",
            "headers": header_references((*EVERYWHERE, *TRACED, "ETag")),
        }
    paths["/health"] = _probe(surface, "The process runs.", _json(_status("ok")))
    paths["/ready"] = _probe(
        surface, "Requests are welcome.", _json(_status("ready")), _READY_REASONS
    )
    figures = {METRICS_TYPE: {"schema": {"type": "string"}}}
    paths["/metrics"] = _probe(surface, "Figures for Prometheus.", figures)
    return paths


def _chat(surface: Surface, profile: str) -> dict[str, Any]:
    request = reference(schema_name("ChatCompletionRequest", profile))
    events = {
        "type": "string",
        "description": "Events `data: …`, each one JSON document of `x-headrace-events`, then "
        "`data: [DONE]`.",
        "x-headrace-events": {
            "anyOf": [
                reference(schema_name("ChatCompletionChunk", profile)),
                reference(_ENVELOPE),
            ]
        },
    }
    content = {
        **_json(reference(schema_name("ChatCompletion", profile))),
        EVENTS_TYPE: {"schema": events},
    }
    return {
        "summary": "Answer a conversation, whole or with `stream` as events.",
        "x-headrace-profile": profile,
        "requestBody": {"required": True, "content": _json(request)},
        "responses": _responses(surface, content, _CHAT_REASONS, (*TOLD, *_limit_headers(surface))),
    }


def _readable(
    surface: Surface,
    summary: str,
    content: dict[str, Any],
    *,
    reasons: Collection[Reason] = (),
    headers: tuple[str, ...] = (),
) -> dict[str, Any]:
    """GET and HEAD."""
    keys = _KEY_REASONS if surface.needs_key else frozenset()
    told = (*headers, *_limit_headers(surface))
    responses = _responses(surface, content, keys.union(reasons), told)
    bare = {
        status: {name: part for name, part in response.items() if name != "content"}
        for status, response in responses.items()
    }
    return {
        "get": {"summary": summary, "responses": responses},
        "head": {"summary": f"Headers of the same: {summary}", "responses": bare},
    }


def _probe(
    surface: Surface, summary: str, content: dict[str, Any], reasons: Collection[Reason] = ()
) -> dict[str, Any]:
    """GET and HEAD that need no key."""
    free = replace(surface, needs_key=False)
    operations = _readable(free, summary, content, reasons=reasons)
    if surface.needs_key:
        return {
            method: {**operation, "security": _NO_SECURITY}
            for method, operation in operations.items()
        }
    return operations


def _responses(
    surface: Surface,
    content: dict[str, Any],
    reasons: Collection[Reason],
    headers: Collection[str],
) -> dict[str, Any]:
    answered = reasons if surface.needs_key else set(reasons) - _KEY_REASONS
    responses: dict[str, Any] = {
        "200": {
            "description": "The answer.",
            "headers": header_references((*EVERYWHERE, *TRACED, *headers)),
            "content": content,
        }
    }
    for status, group in reasons_by_status(sorted(answered)).items():
        names = (*EVERYWHERE, *TRACED, *header_names(group), *_limit_headers(surface))
        responses[str(status)] = _failure(describe(group), names)
    responses["default"] = _failure("Any other failure, such as malformed HTTP.", EVERYWHERE)
    return responses


def _failure(description: str, headers: Collection[str]) -> dict[str, Any]:
    return {
        "description": description,
        "headers": header_references(headers),
        "content": _json(reference(_ENVELOPE)),
    }


def _limit_headers(surface: Surface) -> tuple[str, ...]:
    return LIMITED if surface.needs_key else ()


def _json(schema: Schema) -> dict[str, Any]:
    return {JSON_TYPE: {"schema": schema}}


def _status(word: str) -> Schema:
    return {
        "type": "object",
        "properties": {"status": {"const": word}},
        "required": ["status"],
        "additionalProperties": False,
    }


def _model_name() -> dict[str, Any]:
    return {
        "name": "name",
        "in": "path",
        "required": True,
        "description": "A model's name or an alias; slashes in it may stand as they are.",
        "schema": {"type": "string", "minLength": 1},
    }

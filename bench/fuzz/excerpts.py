"""Excerpts of an OpenAPI document: one operation, a few of its fields.

Drawing from the whole document takes a tenth of a second a case, nearly all of it for fields beside
the one that matters. What an excerpt admits the document admits too.
"""

import copy
import random
from typing import Any

_LEAST_FIELDS, _MOST_FIELDS = 1, 9
_MOST_MESSAGES = 3
_OPEN_SHARE = 0.1
# What makes the most of an answer is there more often than others.
_FAVOURED = ("stream", "stream_options", "n", "max_tokens", "stop", "temperature")
_FAVOURED_SHARE = 0.3
_STREAM_SHARE = 0.25
_REFERENCE = "#/components/schemas/"

Document = dict[str, Any]


def operations(document: Document) -> list[tuple[str, str]]:
    """All of them as (path, method)."""
    return [
        (path, method)
        for path, item in document["paths"].items()
        for method in item
        if method in ("get", "head", "post")
    ]


def excerpt(document: Document, path: str, method: str, chance: random.Random) -> Document:
    """The document with this operation alone, and with some of the optional fields of its body.

    Unknown keys are admitted in one of ten only.
    """
    item = document["paths"][path]
    operation = copy.deepcopy(item[method])
    operation["responses"] = {"default": {"description": "any"}}
    parts: Document = {method: operation}
    if "parameters" in item:
        parts["parameters"] = item["parameters"]
    if "requestBody" in operation:
        content = operation["requestBody"]["content"]["application/json"]
        content["schema"] = _with_few_fields(_resolved(document, content["schema"]), chance)
        if chance.random() >= _OPEN_SHARE:
            _close(content["schema"])
    return {"openapi": document["openapi"], "info": document["info"], "paths": {path: parts}}


def _with_few_fields(schema: Document, chance: random.Random) -> Document:
    properties = schema["properties"]
    optional = [name for name in properties if name not in schema["required"]]
    count = chance.randint(_LEAST_FIELDS, _MOST_FIELDS)
    favoured = [name for name in _FAVOURED if chance.random() < _FAVOURED_SHARE]
    kept = {*schema["required"], *chance.sample(optional, count), *favoured}
    few = {name: properties[name] for name in properties if name in kept}
    messages = few["messages"]
    messages["maxItems"] = _MOST_MESSAGES
    roles = messages["items"]["oneOf"]
    messages["items"] = {"oneOf": chance.sample(roles, chance.randint(1, 2))}
    if chance.random() < _STREAM_SHARE:
        few["stream"] = {"const": True}
        return {**schema, "properties": few, "required": [*schema["required"], "stream"]}
    return {**schema, "properties": few}


def _resolved(document: Document, node: Any) -> Any:
    """A copy without references."""
    if isinstance(node, list):
        return [_resolved(document, entry) for entry in node]
    if not isinstance(node, dict):
        return node
    if isinstance(node.get("$ref"), str):
        name = node["$ref"].removeprefix(_REFERENCE)
        return _resolved(document, document["components"]["schemas"][name])
    return {key: _resolved(document, value) for key, value in node.items()}


def _close(node: Any) -> None:
    """Admit no keys that are not named, wherever some are."""
    if isinstance(node, list):
        for entry in node:
            _close(entry)
    elif isinstance(node, dict):
        if "properties" in node and "additionalProperties" not in node:
            node["additionalProperties"] = False
        for key, entry in node.items():
            # What `anyOf` beside properties demands is said of the same keys once more.
            if key != "anyOf" or "properties" not in node:
                _close(entry)

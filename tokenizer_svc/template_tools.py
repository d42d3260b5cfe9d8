"""Functions as chat templates read them: dictionaries in the form of OpenAI's API.

A description is there only where the caller set it; where it gave no schema there is an empty one.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeAlias

from tokenizer_svc.json_objects import gather_texts, with_changed_texts
from tokenizer_svc.tool_mapping import ToolSpec

TemplateTool: TypeAlias = Mapping[str, Any]

# What a schema says in JSON Schema's own words, which templates ask for: no text of the client's.
_SCHEMA_WORDS = frozenset(
    (
        *("type", "object", "array", "string", "number", "integer", "boolean", "null"),
        *("properties", "required", "additionalProperties", "patternProperties", "propertyNames"),
        *("items", "prefixItems", "additionalItems", "contains", "enum", "const", "default"),
        *("title", "description", "examples", "format", "nullable", "deprecated", "$comment"),
        *("anyOf", "oneOf", "allOf", "not", "if", "then", "else", "$ref", "$defs", "definitions"),
        *("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"),
        *("minLength", "maxLength", "pattern", "minItems", "maxItems", "uniqueItems"),
        *("minProperties", "maxProperties", "$schema", "$id"),
    )
)


def template_tool(spec: ToolSpec) -> TemplateTool:
    """The function as a chat template sees it; whether it is strict is not for the model."""
    function: dict[str, Any] = {"name": spec.name}
    if spec.description is not None:
        function["description"] = spec.description
    function["parameters"] = spec.parameters or {"type": "object", "properties": {}}
    return {"type": "function", "function": function}


def completed(tool: TemplateTool) -> TemplateTool:
    """With a description and properties, empty ones where there are none."""
    function = tool["function"]
    return {
        **tool,
        "function": {
            "name": function["name"],
            "description": function.get("description", ""),
            "parameters": {"type": "object", "properties": {}, **function["parameters"]},
        },
    }


def tool_texts(tools: Iterable[TemplateTool]) -> list[str]:
    """Every text that the client wrote, the words of JSON Schema among them."""
    texts: list[str] = []
    gather_texts((value for tool in tools for value in tool["function"].values()), texts)
    return texts


def changed_tool(tool: TemplateTool, change: Callable[[str], str]) -> TemplateTool:
    """The tool with every text that the client wrote changed, but for JSON Schema's own words."""

    def changed(text: str) -> str:
        return text if text in _SCHEMA_WORDS else change(text)

    function = {key: with_changed_texts(value, changed) for key, value in tool["function"].items()}
    return {**tool, "function": function}

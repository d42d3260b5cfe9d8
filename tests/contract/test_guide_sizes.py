"""Bounds of edge, tokenizer and worker on schemas, set where none refuses what another admits."""

from collections.abc import Callable
from typing import Any

import orjson
import pytest

from edge.openai.request_limits import RequestLimits
from headrace.tokenizer.v1.render_pb2 import Function, ToolChoice
from headrace.worker.v1.generation_pb2 import Guide
from tokenizer_svc.formats.catalog import FormatCatalog
from tokenizer_svc.guides.answers import AskedAnswer, answer_guide
from tokenizer_svc.settings import LimitSettings
from tokenizer_svc.tool_mapping import tool_specs
from worker.engine.openvino.settings import OpenVinoSettings

LIMITS = RequestLimits()
FORMATS = ("hermes", "qwen3+hermes", "llama3_json", "mistral", "qwen3_coder")


def nested(number: int) -> dict[str, Any]:
    """Small objects, of which the guide says more than the client."""
    members = {f"p{number}_{at}": {"type": "object", "properties": {"a": {}}} for at in range(36)}
    return {"type": "object", "properties": members}


def numbered(number: int) -> dict[str, Any]:
    """Short values, whose commas have a space behind them in the guide."""
    return {"type": "object", "properties": {f"x{number}": {"enum": list(range(10, 550))}}}


def definitions(tools: list[Function]) -> list[dict[str, object]]:
    """The functions as a client sends them."""
    return [
        {"type": "function", "function": {"name": f.name, "parameters": orjson.Fragment(text)}}
        for f in tools
        for text in [f.parameters]
    ]


@pytest.mark.parametrize("parameters", [nested, numbered])
@pytest.mark.parametrize("name", FORMATS)
def test_all_functions_that_a_client_may_send_fit_into_a_guide(
    name: str, parameters: Callable[[int], dict[str, Any]]
) -> None:
    """By default the largest `tools`, beside the largest schema of the content, are served."""
    tools = [
        Function(
            name=f"{number:064d}", parameters=orjson.dumps(parameters(number)).decode(), strict=True
        )
        for number in range(128)
    ]
    sent = len(orjson.dumps(definitions(tools)))
    while sent > LIMITS.max_tool_bytes:
        sent -= len(orjson.dumps(definitions([tools.pop()])))
    assert sent > 0.9 * LIMITS.max_tool_bytes
    schema = {
        "type": "object",
        "properties": {"x": {"enum": list(range(10_000, 31_000))}},
        "additionalProperties": False,
    }
    content = Guide(json_schema=orjson.dumps(schema).decode())
    assert 0.9 * LIMITS.max_schema_bytes < len(content.json_schema) < LIMITS.max_schema_bytes
    output_format = FormatCatalog().find(name)
    assert output_format is not None

    guide = answer_guide(
        AskedAnswer(
            output_format=output_format,
            tools=tool_specs(tools, LimitSettings()),
            choice=ToolChoice(),
            content_guide=content,
            begins_in_reasoning=False,
            special_ids={},
            context_length=131_072,
        )
    )

    assert guide is not None
    assert len(guide.grammar.encode()) <= OpenVinoSettings().guide_max_bytes

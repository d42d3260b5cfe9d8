"""A guide that rendering asks for: carried to a model that can follow it, refused for another."""

import dataclasses
from typing import Any

import pytest

from headrace.worker.v1.generation_pb2 import Guide
from tests.support.chat_requests import WHOLE
from tests.support.edge_server import HELLO, ask, running_edge
from tests.support.fake_backend import FakeBackend

GUIDE = Guide(grammar="start: /a/")
TOOL = {"type": "function", "function": {"name": "f"}}
PATHS = ("/v1/chat/completions", "/api/v1/chat/completions")


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"tools": [TOOL], "tool_choice": "required"}, "tool_choice"),
        ({"guided_regex": "a"}, "guided_regex"),
    ],
)
async def test_a_model_that_follows_none(
    path: str, stream: bool, fields: dict[str, Any], param: str
) -> None:
    """The field that asked for it is named, under every profile, and nothing is generated."""
    backend = FakeBackend(models=(WHOLE,), guide=GUIDE)
    async with running_edge(backend) as edge:
        response = await ask(edge.port, {**HELLO, **fields, "stream": stream}, path=path)

    assert response.status == 400
    assert response.error == {
        "message": f"Unsupported parameter: '{param}' is not supported with this model.",
        "type": "invalid_request_error",
        "param": param,
        "code": "unsupported_parameter",
    }
    assert backend.generations == []


async def test_a_model_that_follows_it() -> None:
    """The guide goes to the worker with the prompt."""
    model = dataclasses.replace(WHOLE, honoured_fields=frozenset(("guide.grammar",)))
    backend = FakeBackend(models=(model,), guide=GUIDE)
    async with running_edge(backend) as edge:
        response = await ask(edge.port, {**HELLO, "guided_regex": "a"})

    assert response.status == 200, response.body
    assert [generation.prompt.guide for generation in backend.generations] == [GUIDE]

"""The table of fields: whole, true to the contracts and to the page that is made of it."""

import dataclasses
import re
from pathlib import Path
from typing import Any, get_type_hints

import pytest
from google.protobuf.descriptor import Descriptor
from openai.types.chat.completion_create_params import CompletionCreateParamsStreaming

from edge.openai.fields import FIELDS, FieldSpec
from edge.openai.fields_page import PAGE, main, render_page
from headrace.tokenizer.v1.detokenize_pb2 import DetokenizeOpen
from headrace.tokenizer.v1.render_pb2 import RenderRequest
from headrace.worker.v1.generation_pb2 import GenerationRequest
from worker.engine.seam import EngineRequest, SamplingParams

NAMES = frozenset(spec.name for spec in FIELDS)
MESSAGES = {message.DESCRIPTOR.name: message.DESCRIPTOR for message in (
    DetokenizeOpen, RenderRequest, GenerationRequest,
)}  # fmt: skip
VENDORS_FIELDS = (
    *("model", "messages", "stream", "temperature", "max_tokens", "top_p", "stop", "user"),
    *("frequency_penalty", "presence_penalty", "top_k", "audio", "function_call", "functions"),
    *("tool_choice", "tools", "n", "max_completion_tokens", "response_format", "logprobs"),
    *("top_logprobs", "stream_options", "store", "metadata", "seed"),
)


def test_every_field_of_openai() -> None:
    """The table has every parameter that OpenAI's own client can send."""
    assert set(get_type_hints(CompletionCreateParamsStreaming)) <= NAMES


@pytest.mark.parametrize("name", VENDORS_FIELDS)
def test_every_field_of_the_vendors(name: str) -> None:
    """The table has every parameter of the four vendors' pages."""
    assert name in NAMES


def _proto_fields() -> list[FieldSpec]:
    return [spec for spec in FIELDS if spec.proto is not None]


@pytest.mark.parametrize("spec", _proto_fields(), ids=lambda spec: spec.name)
def test_proto_field_exists(spec: FieldSpec) -> None:
    """The contract has the field that the table names."""
    assert spec.proto is not None
    message, *path = spec.proto.split(".")
    descriptor: Descriptor | None = MESSAGES[message]
    for name in path:
        assert descriptor is not None
        field = descriptor.fields_by_name[name]
        descriptor = field.message_type


@pytest.mark.parametrize(
    "spec", [spec for spec in FIELDS if spec.engine is not None], ids=lambda spec: spec.name
)
def test_engine_field_exists(spec: FieldSpec) -> None:
    """The engine's request has the field that the table names."""
    assert spec.engine is not None
    path = spec.engine.removeprefix("EngineRequest.").removeprefix("sampling.")
    owner = SamplingParams if ".sampling." in spec.engine else EngineRequest
    assert path in {field.name for field in dataclasses.fields(owner)}


def test_page_is_current(capsys: pytest.CaptureFixture[str]) -> None:
    """The generated page is what the table gives."""
    assert PAGE.read_text(encoding="utf-8") == render_page()
    assert main(["--check"]) == 0
    assert capsys.readouterr().err == ""


def test_page_that_differs(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A page that is not what the table gives is found, told, and written anew when asked."""
    page = tmp_path / "FIELDS.md"
    page.write_text("old")
    monkeypatch.setattr("edge.openai.fields_page.PAGE", page)

    assert main(["--check"]) == 1
    assert "FIELDS.md differs" in capsys.readouterr().err
    assert main([]) == 0
    assert main(["--check"]) == 0


def test_page_has_a_row_a_field() -> None:
    """Each field has one row."""
    rows: list[Any] = re.findall(r"^\| `(\w+)` ", render_page(), re.MULTILINE)
    assert [spec.name for spec in FIELDS] == rows

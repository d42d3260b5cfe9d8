"""What the README and examples/ tell a reader to run does what they say."""

import json
import re
import subprocess
import sys
from pathlib import Path

import grpc
import pytest
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.json_format import MessageToDict, Parse
from google.protobuf.message_factory import GetMessageClass
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase,
)

from tests.support.stack import Stack, clean_environment

pytestmark = [pytest.mark.e2e, pytest.mark.model]

ROOT = Path(__file__).parents[2]
QUESTION = "What is the capital of France?"


def run_example(name: str, *arguments: str) -> str:
    """An example's output, run as a reader runs it."""
    command = [sys.executable, str(ROOT / "examples" / name), QUESTION, *arguments]
    done = subprocess.run(
        command, check=True, capture_output=True, text=True, timeout=50, env=clean_environment()
    )
    return done.stdout


def test_openai_chat(real: Stack) -> None:
    """OpenAI's client prints an answer."""
    assert "Paris" in run_example("openai_chat.py", "--url", f"{real.edge.url}/v1")


def test_grpc_chat(real: Stack) -> None:
    """The gRPC client prints an answer and what it cost."""
    output = run_example(
        "grpc_chat.py",
        *("--worker", real.workers[0].address, "--tokenizer", real.tokenizers[0].address),
    )

    assert "Paris" in output
    assert re.search(r"\[(stop|length): \d+ prompt tokens, \d+ of them cached, \d+ comp", output)


def test_grpc_tools(real: Stack) -> None:
    """The function is called as its schema says, and an answer follows."""
    output = run_example(
        "grpc_tools.py",
        *("--worker", real.workers[0].address, "--tokenizer", real.tokenizers[0].address),
    )
    call, _, answer = output.partition("\n")
    found = re.fullmatch(r"get_weather\((\{.*\})\) = (\{.*\})", call)

    assert found is not None
    asked = json.loads(found[1])
    assert set(asked) == {"city", "unit"}
    assert asked["unit"] in ("celsius", "fahrenheit")
    assert answer.strip()


def test_grpcurl_lines(real: Stack) -> None:
    """Each grpcurl line is a call that reflection describes and a service answers."""
    text = (ROOT / "examples" / "README.md").read_text(encoding="utf-8")
    lines = re.findall(
        r"grpcurl -plaintext (?:-d '(.*?)' *\\?\s*)?127\.0\.0\.1:(\d+) (\S+)", text, re.DOTALL
    )
    addresses = {"50052": real.tokenizers[0].address, "50061": real.workers[0].address}

    answers = {
        method: call_by_reflection(addresses[port], method, data) for data, port, method in lines
    }

    assert {"Render", "Generate", "Decode", "GetModel"} == {name.split("/")[1] for name in answers}
    assert "Paris" in answers["headrace.tokenizer.v1.TokenizerService/Decode"][0]["text"]
    assert all(answers.values())


def call_by_reflection(address: str, method: str, data: str) -> list[dict[str, object]]:
    """What grpcurl does: ask the service for its types, send JSON, return the answers as JSON."""
    service_name, method_name = method.split("/")
    with grpc.insecure_channel(address) as channel:
        pool = DescriptorPool(ProtoReflectionDescriptorDatabase(channel))
        described = pool.FindServiceByName(service_name).FindMethodByName(method_name)
        request = Parse(data or "{}", GetMessageClass(described.input_type)())
        answer_class = GetMessageClass(described.output_type)
        kind = channel.unary_stream if described.server_streaming else channel.unary_unary
        call = kind(
            f"/{method}",
            request_serializer=type(request).SerializeToString,
            response_deserializer=answer_class.FromString,
        )
        answer = call(request, timeout=30)
        answers = list(answer) if described.server_streaming else [answer]
    return [MessageToDict(each) for each in answers]

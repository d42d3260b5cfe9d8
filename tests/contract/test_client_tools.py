"""The typed client with functions and thoughts: a real tokenizer, a worker that says anything."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from headrace.client.chat import HeadraceClient
from headrace.client.prompt_request import ChatMessage, ContentGuide, Function, ToolChoice
from headrace.common.v1 import errors_pb2
from headrace.common.v1.finish_pb2 import FINISH_REASON_LENGTH, FINISH_REASON_STOP, FinishReason
from headrace.models.directory import open_model_directory
from headrace.rpc.errors import ServiceError
from headrace.worker.v1.generation_pb2 import GenerationRequest
from tests.support import scripted_worker as wrk
from tests.support.raw_detokenize import running_tokenizer
from tests.support.scripted_stream import ScriptedStream
from tests.support.tokenizer_models import train_tokenizer, write_model
from tokenizer_svc.registry import ModelRegistry, TokenizerModel
from tokenizer_svc.settings import TokenizerSettings

HELLO = [ChatMessage("user", "Hello")]
SCHEMA = '{"type": "object", "properties": {"city": {"type": "string"}}}'
TOOLS = [Function("look", "Looks.", SCHEMA)]
CALL = '<tool_call>\n{"name": "look", "arguments": {"city": "Zürich"}}\n</tool_call>'


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> ModelRegistry:
    """One model that says calls or text, and one that thinks first."""
    settings = TokenizerSettings(output_formats={"plain": "hermes", "thinker": "qwen3+hermes"})
    return ModelRegistry(
        [
            TokenizerModel.load(open_model_directory(folder), settings)
            for folder in (
                written(tmp_path_factory.mktemp("client") / name) for name in ("plain", "thinker")
            )
        ]
    )


def written(folder: Path) -> Path:
    """A model directory with room for functions in the prompt."""
    write_model(folder, train_tokenizer())
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    config["max_position_embeddings"] = 4096
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return folder


@asynccontextmanager
async def scene(
    registry: ModelRegistry, name: str
) -> AsyncIterator[tuple[HeadraceClient, ScriptedStream]]:
    """A client between the tokenizer and a worker that serves this model."""
    directory = registry.find(name).directory
    async with running_tokenizer(registry) as tokenizer, wrk.scripted_worker() as worker:
        worker.model.model = name
        worker.model.tokenizer_fingerprint = directory.tokenizer_fingerprint
        client = HeadraceClient([worker.address], [f"127.0.0.1:{tokenizer.server.port}"])
        await client._backend.start()
        try:
            stream = await worker.greeted()
            await client._backend.ready()
            yield client, stream
        finally:
            await client._backend.stop()


async def says(
    registry: ModelRegistry,
    worker: ScriptedStream,
    text: str,
    reason: "FinishReason.ValueType" = FINISH_REASON_STOP,
) -> GenerationRequest:
    """Play the worker's part of the newest request: these words, and an end."""
    count = len(worker.entries("submissions"))
    submission = await wrk.submitted(worker, max(1, count))
    model = registry.find(submission.request.model)
    await worker.send(wrk.start(submission.first_handle))
    for token_id in model.encoder.encode(text):
        await worker.send(wrk.tokens(submission.first_handle, token_id))
    await worker.send(wrk.end(submission.first_handle, reason))
    request: GenerationRequest = submission.request
    return request


async def test_a_call_stands_beside_the_text(registry: ModelRegistry) -> None:
    """Text is iterated, the call is an object that can go into the next request as it is."""
    async with scene(registry, "plain") as (client, worker):
        async with client.chat(HELLO, tools=TOOLS) as answer:
            request = await says(registry, worker, f"Let me see. {CALL}\n{CALL} Well.")
            text = await answer.text()
        first, second = answer.tool_calls
        reply = [ChatMessage("assistant", text, tool_calls=(first, second))]
        results = [ChatMessage("tool", "22", tool_call_id=call.id) for call in (first, second)]
        async with client.chat([*HELLO, *reply, *results], tools=TOOLS) as last:
            await wrk.submitted(worker, 2)
            await says(registry, worker, "It is 22.")
            told = await last.text()

    assert text == "Let me see.  Well."
    assert (first.name, json.loads(first.arguments)) == ("look", {"city": "Zürich"})
    assert first.id != second.id
    assert not request.HasField("guide")
    assert (told, last.tool_calls) == ("It is 22.", [])


async def test_a_call_that_broke_off_is_none(registry: ModelRegistry) -> None:
    """What max_tokens cut within its arguments cannot be called."""
    async with (
        scene(registry, "plain") as (client, worker),
        client.chat(HELLO, tools=TOOLS, max_tokens=20) as answer,
    ):
        await says(registry, worker, CALL[:50], FINISH_REASON_LENGTH)
        text = await answer.text()

    assert (text, answer.tool_calls, answer.finish_reason) == ("", [], "length")


async def test_thoughts_are_told_apart_and_counted(registry: ModelRegistry) -> None:
    """Also without functions, where the model thinks; the usage says what they took."""
    thoughts = "<think>\nHow are you?\n</think>\n\n"
    async with (
        scene(registry, "thinker") as (client, worker),
        client.chat(HELLO) as answer,
    ):
        await says(registry, worker, f"{thoughts}Hello. {CALL}")
        text = await answer.text()
        usage = answer.usage

    assert answer.reasoning == "How are you?"
    assert text == f"Hello. {CALL}"
    encoder = registry.find("thinker").encoder
    assert usage.reasoning_tokens == [len(encoder.encode(thoughts))]
    assert usage.completion_tokens == [len(encoder.encode(f"{thoughts}Hello. {CALL}"))]


async def test_log_probabilities_of_calls_are_complete(registry: ModelRegistry) -> None:
    """Every token that the worker drew is there, markup included."""
    async with (
        scene(registry, "plain") as (client, worker),
        client.chat(HELLO, tools=TOOLS, logprobs=0) as answer,
    ):
        submission = await wrk.submitted(worker)
        ids = registry.find("plain").encoder.encode(f"{CALL} ")
        frame = wrk.drawn(submission.first_handle, *(-float(place) for place in range(len(ids))))
        frame.token_ids[:] = ids
        frame.MergeFrom(wrk.end(submission.first_handle))
        await worker.send(frame)
        await answer.text()

    assert [call.name for call in answer.tool_calls] == ["look"]
    assert b"".join(entry.token for entry in answer.logprobs).decode() == f"{CALL} "
    assert [-entry.logprob for entry in answer.logprobs] == list(range(len(ids)))


async def test_without_functions_and_thoughts_it_is_plain_text(registry: ModelRegistry) -> None:
    """Nothing is read into markup that nobody asked for, and nothing is paid for it."""
    async with (
        scene(registry, "plain") as (client, worker),
        client.chat(HELLO) as answer,
    ):
        await says(registry, worker, CALL)
        text = await answer.text()

    assert (text, answer.tool_calls) == (CALL, [])


@pytest.mark.parametrize(
    "options",
    [
        {"tools": TOOLS, "tool_choice": ToolChoice(required=True)},
        {"tools": [Function("look", None, SCHEMA, strict=True)]},
        {"content_guide": ContentGuide("json_schema", SCHEMA)},
    ],
)
async def test_what_must_be_reaches_the_worker(
    registry: ModelRegistry, options: dict[str, Any]
) -> None:
    """A demanded or strict call and a shape of the content make a guide."""
    async with (
        scene(registry, "plain") as (client, worker),
        client.chat(HELLO, **options) as answer,
    ):
        request = await says(registry, worker, CALL)
        await answer.text()

    assert request.guide.WhichOneof("kind") == ("grammar" if "tools" in options else "json_schema")


async def test_thinking_that_the_model_cannot_do_is_refused(registry: ModelRegistry) -> None:
    """The refusal names the option."""
    async with scene(registry, "plain") as (client, _):
        with pytest.raises(ServiceError) as caught:
            async with client.chat(HELLO, thinking=True):
                pass

    assert caught.value.reason == errors_pb2.ERROR_REASON_UNSUPPORTED_PARAMETER
    assert caught.value.param == "thinking"

"""Render, Encode, Decode, CountTokens, GetModel, health and reflection over real gRPC."""

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from headrace.common.v1 import errors_pb2
from headrace.digest import block_digests, root_digest
from headrace.models.settings import ModelsSettings
from headrace.rpc.errors import ServiceError, error_from_rpc
from headrace.runtime.errors import StartError
from headrace.tokenizer.v1.encoding_pb2 import (
    Conversation,
    CountTokensRequest,
    DecodeRequest,
    EncodeRequest,
)
from headrace.tokenizer.v1.model_pb2 import GetModelRequest
from headrace.tokenizer.v1.render_pb2 import BlockDigestParams, Message, RenderRequest
from tests.support.raw_detokenize import RunningTokenizer, running_tokenizer
from tests.support.tokenizer_models import CONTEXT_LENGTH, train_tokenizer, write_model
from tokenizer_svc.main import run
from tokenizer_svc.registry import ModelRegistry, TokenizerModel
from tokenizer_svc.settings import LimitSettings, TokenizerSettings

USER = Message(role="user", content="Hello, world!")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> list[TokenizerModel]:
    """Two models; the second has no chat template."""
    folder = tmp_path_factory.mktemp("models")
    document = train_tokenizer()
    directories = [
        write_model(folder / "small", document),
        write_model(folder / "bare", document, template=None),
    ]
    return [TokenizerModel.load(directory, TokenizerSettings()) for directory in directories]


@pytest.fixture(scope="module")
def registry(models: list[TokenizerModel]) -> ModelRegistry:
    """Both models."""
    return ModelRegistry(models)


async def refusal(call: grpc.aio.UnaryUnaryCall) -> ServiceError:
    """The error with which the call ends."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return error_from_rpc(caught.value, peer="tokenizer")


async def test_render_gives_ids_and_the_decoder(
    models: list[TokenizerModel], registry: ModelRegistry
) -> None:
    """The ids spell the template's text, and the decoder describes this tokenizer."""
    async with running_tokenizer(registry) as tokenizer:
        answer = await tokenizer.stub.Render(RenderRequest(messages=[USER]))

    model = models[0]
    text = model.vocabulary.decode(answer.prompt_token_ids, keep_special_tokens=True)
    assert text == "<|im_start|>user\nHello, world!<|im_end|>\n<|im_start|>assistant\n"
    assert answer.decoder == model.decoder()
    assert list(answer.decoder.stop_token_ids) == [2]
    assert not answer.block_digests


async def test_render_passes_names_and_null_content(registry: ModelRegistry) -> None:
    """A name reaches the template; null content is no text where the template would write None."""
    async with running_tokenizer(registry) as tokenizer:
        named = await tokenizer.stub.Render(
            RenderRequest(messages=[Message(role="user", content="x", name="Bob")])
        )
        null = await tokenizer.stub.Render(RenderRequest(messages=[Message(role="assistant")]))
        texts = [
            (await tokenizer.stub.Decode(DecodeRequest(token_ids=answer.prompt_token_ids))).text
            for answer in (named, null)
        ]

    assert texts == ["user (Bob)\nx\nassistant\n", "assistant\n\nassistant\n"]


async def test_render_returns_block_digests_when_asked(registry: ModelRegistry) -> None:
    """They are the chain over the prompt's full blocks, with model, LoRA and salt at its root."""
    params = BlockDigestParams(block_size=4, model="served", lora="l", cache_salt="s")
    async with running_tokenizer(registry) as tokenizer:
        answer = await tokenizer.stub.Render(RenderRequest(messages=[USER], block_digests=params))

    root = root_digest(4, "served", "l", "s")
    assert list(answer.block_digests) == block_digests(root, 4, list(answer.prompt_token_ids))
    assert len(answer.block_digests) == len(answer.prompt_token_ids) // 4 > 0


async def test_render_refuses_what_is_too_long(registry: ModelRegistry) -> None:
    """By the caller's bound or by the model's context, in OpenAI's words."""
    long = Message(role="user", content="Hello, " * CONTEXT_LENGTH)
    async with running_tokenizer(registry) as tokenizer:
        by_context = await refusal(tokenizer.stub.Render(RenderRequest(messages=[long])))
        by_caller = await refusal(
            tokenizer.stub.Render(RenderRequest(messages=[USER], max_prompt_tokens=3))
        )

    for error, bound in ((by_context, CONTEXT_LENGTH), (by_caller, 3)):
        assert error.reason == errors_pb2.ERROR_REASON_CONTEXT_LENGTH_EXCEEDED
        assert error.message.startswith(f"This model's maximum context length is {bound} tokens.")
        assert error.param == "messages"


@pytest.mark.parametrize(
    ("request_fields", "part", "param"),
    [
        ({}, "messages is empty", "messages"),
        (
            {"messages": [Message(role="end", content="x")]},
            r"messages[0].role is `end`",
            "messages",
        ),
        ({"messages": [USER], "block_digests": BlockDigestParams()}, "block_size", "block_digests"),
        ({"messages": [USER], "model": "bare"}, "no chat template", "model"),
        ({"messages": [USER], "model": "nope"}, "`nope` does not exist", "model"),
    ],
)
async def test_render_refuses_by_name(
    registry: ModelRegistry, request_fields: dict[str, object], part: str, param: str
) -> None:
    """The error names the parameter and what is wrong with it."""
    async with running_tokenizer(registry) as tokenizer:
        error = await refusal(tokenizer.stub.Render(RenderRequest(**request_fields)))  # type: ignore[arg-type]

    assert part in error.message
    assert error.param == param


async def test_encode_and_decode(registry: ModelRegistry) -> None:
    """Special tokens are text unless allowed, and left out of text unless kept."""
    text = "a<|im_end|>b"
    async with running_tokenizer(registry) as tokenizer:
        stub = tokenizer.stub
        plain = await stub.Encode(EncodeRequest(text=text))
        special = await stub.Encode(EncodeRequest(text=text, allow_special_tokens=True))
        empty = await stub.Encode(EncodeRequest(model="bare"))
        decoded = [
            (await stub.Decode(DecodeRequest(token_ids=ids, keep_special_tokens=keep))).text
            for ids in (plain.token_ids, special.token_ids)
            for keep in (False, True)
        ]

    assert len(special.token_ids) == 3
    assert not empty.token_ids
    assert decoded == [text, text, "ab", text]


async def test_decode_refuses_unknown_ids(registry: ModelRegistry) -> None:
    """The error names the id and the bound."""
    async with running_tokenizer(registry) as tokenizer:
        error = await refusal(tokenizer.stub.Decode(DecodeRequest(token_ids=[1, 99_999])))

    assert "99999" in error.message
    assert error.param == "token_ids"


async def test_count_tokens_agrees_with_encode_and_render(registry: ModelRegistry) -> None:
    """Texts and conversations are counted as they would be encoded."""
    async with running_tokenizer(registry) as tokenizer:
        stub = tokenizer.stub
        encoded = await stub.Encode(EncodeRequest(text="<|im_end|> hello"))
        rendered = await stub.Render(RenderRequest(messages=[USER]))
        text = await stub.CountTokens(CountTokensRequest(text="<|im_end|> hello"))
        conversation = await stub.CountTokens(
            CountTokensRequest(conversation=Conversation(messages=[USER]))
        )
        error = await refusal(stub.CountTokens(CountTokensRequest()))

    assert text.tokens == len(encoded.token_ids)
    assert conversation.tokens == len(rendered.prompt_token_ids)
    assert error.param == "input"


async def test_texts_are_bounded(registry: ModelRegistry) -> None:
    """A longer text is refused before it is encoded."""
    limits = LimitSettings(max_text_characters=5)
    async with running_tokenizer(registry, limits=limits) as tokenizer:
        assert (await tokenizer.stub.Encode(EncodeRequest(text="12345"))).token_ids
        error = await refusal(tokenizer.stub.CountTokens(CountTokensRequest(text="123456")))

    assert error.reason == errors_pb2.ERROR_REASON_REQUEST_TOO_LARGE
    assert "6 characters; at most 5" in error.message


async def test_ids_are_bounded(registry: ModelRegistry) -> None:
    """Encode gives no more ids than allowed; they are counted all the same."""
    limits = LimitSettings(max_text_tokens=3)
    async with running_tokenizer(registry, limits=limits) as tokenizer:
        assert len((await tokenizer.stub.Encode(EncodeRequest(text="123"))).token_ids) == 3
        error = await refusal(tokenizer.stub.Encode(EncodeRequest(text="1234")))
        counted = await tokenizer.stub.CountTokens(CountTokensRequest(text="1234"))

    assert error.reason == errors_pb2.ERROR_REASON_REQUEST_TOO_LARGE
    assert error.message == "text has 4 tokens; at most 3 are allowed."
    assert counted.tokens == 4


async def test_get_model_says_what_is_known(
    models: list[TokenizerModel], registry: ModelRegistry
) -> None:
    """The first model is the default; the vocabulary includes ids without a token."""
    async with running_tokenizer(registry) as tokenizer:
        first = await tokenizer.stub.GetModel(GetModelRequest())
        second = await tokenizer.stub.GetModel(GetModelRequest(model="bare"))

    assert (first.model, second.model) == ("small", "bare")
    assert list(first.served_models) == ["small", "bare"]
    assert first.tokenizer_fingerprint == models[0].directory.tokenizer_fingerprint
    assert first.vocabulary_size == models[0].directory.vocabulary_size
    assert list(first.end_token_ids) == [2]
    assert first.context_length == CONTEXT_LENGTH
    assert first.instance_id == second.instance_id
    assert first.build


@asynccontextmanager
async def blocked_threads(tokenizer: RunningTokenizer, num_jobs: int) -> AsyncIterator[None]:
    """Both threads are at work and the other jobs wait, until the block ends."""
    release, started = threading.Event(), threading.Barrier(3)

    def job(number: int) -> None:
        if number < 2:
            started.wait(10)
            release.wait(10)

    async with asyncio.TaskGroup() as group:
        for number in range(num_jobs):
            group.create_task(tokenizer.pool.run(0, job, number))
        try:
            await asyncio.to_thread(started.wait, 10)
            yield
        finally:
            release.set()


async def test_more_than_may_wait_is_refused(registry: ModelRegistry) -> None:
    """When too many texts wait the next call is overloaded; a place is free again afterwards."""
    limits = LimitSettings(max_pending_encodings=3)
    async with running_tokenizer(registry, limits=limits) as tokenizer:
        async with blocked_threads(tokenizer, 3):
            error = await refusal(tokenizer.stub.Encode(EncodeRequest(text="a")))
        answer = await tokenizer.stub.Encode(EncodeRequest(text="a"))

    assert error.reason == errors_pb2.ERROR_REASON_OVERLOADED
    assert answer.token_ids


async def test_a_waiting_call_is_dropped_with_its_caller(registry: ModelRegistry) -> None:
    """A cancelled call gives its place back without being encoded."""
    ran: list[int] = []
    async with running_tokenizer(registry) as tokenizer:
        async with blocked_threads(tokenizer, 2):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.01):
                    await tokenizer.pool.run(0, ran.append, 1)
        await tokenizer.pool.run(0, ran.append, 2)

    assert ran == [2]


async def test_draining_refuses_unary_calls(registry: ModelRegistry) -> None:
    """Nothing new is taken; GetModel still answers."""
    async with running_tokenizer(registry) as tokenizer:
        tokenizer.servicer.drain()
        error = await refusal(tokenizer.stub.Render(RenderRequest(messages=[USER])))
        model = await tokenizer.stub.GetModel(GetModelRequest())

    assert error.reason == errors_pb2.ERROR_REASON_DRAINING
    assert model.model == "small"


async def test_health(registry: ModelRegistry) -> None:
    """The process and its service are healthy while they serve."""
    async with running_tokenizer(registry) as tokenizer:
        address = f"127.0.0.1:{tokenizer.server.port}"
        async with grpc.aio.insecure_channel(address) as channel:
            stub = health_pb2_grpc.HealthStub(channel)
            names = ("", "headrace.tokenizer.v1.TokenizerService")
            answers = [
                await stub.Check(health_pb2.HealthCheckRequest(service=name)) for name in names
            ]

    assert [answer.status for answer in answers] == [health_pb2.HealthCheckResponse.SERVING] * 2


async def test_the_process_serves_and_stops(models: list[TokenizerModel]) -> None:
    """`run` loads what the settings name and returns after `stop`."""
    path = str(models[0].directory.path)
    stop = asyncio.Event()
    stop.set()

    async with asyncio.timeout(20):
        await run(TokenizerSettings(models=(path,), port=0), stop)


@pytest.mark.parametrize(
    ("change", "part"),
    [
        ({"models": ("absent",)}, "model absent is not in"),
        ({"models": ("TWICE", "TWICE")}, "same served name: small, small"),
        ({"host": "0.0.0.0"}, "tokenizer.host is 0.0.0.0"),  # noqa: S104 (what is refused)
    ],
)
async def test_what_prevents_a_start_is_one_sentence(
    models: list[TokenizerModel], change: dict[str, object], part: str
) -> None:
    """A missing model, two of one name, and an open address end the start by name."""
    path = str(models[0].directory.path)
    values = {"models": (path,), "port": 0} | change
    values["models"] = tuple(path if name == "TWICE" else name for name in values["models"])  # type: ignore[attr-defined]
    settings = TokenizerSettings(**values)  # type: ignore[arg-type]

    with pytest.raises(StartError, match=part):
        await run(settings, asyncio.Event(), ModelsSettings(cache_dir=models[0].directory.path))


async def test_a_taken_port_prevents_the_start(
    models: list[TokenizerModel], registry: ModelRegistry
) -> None:
    """The sentence names the address."""
    path = str(models[0].directory.path)
    async with running_tokenizer(registry) as tokenizer:
        settings = TokenizerSettings(models=(path,), port=tokenizer.server.port)
        with pytest.raises(StartError, match=f"127.0.0.1:{tokenizer.server.port}"):
            await run(settings, asyncio.Event())

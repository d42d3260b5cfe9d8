"""Keys over gRPC: who is let in by a tokenizer, with which models and how often; and the client."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest

from headrace.access.key_ring import KeyRing
from headrace.client.chat import HeadraceClient
from headrace.common.v1 import errors_pb2
from headrace.rpc.bearer import OwnKey
from headrace.rpc.errors import ServiceError, error_from_rpc
from headrace.tokenizer.v1.detokenize_pb2 import DetokenizeOpen
from headrace.tokenizer.v1.encoding_pb2 import CountTokensRequest, DecodeRequest, EncodeRequest
from headrace.tokenizer.v1.model_pb2 import GetModelRequest
from headrace.tokenizer.v1.render_pb2 import Message, RenderRequest
from tests.support.in_process import HELLO, small_registry
from tests.support.keys import KEY, OTHER_KEY, entry, write_keys
from tests.support.raw_attach import running_worker
from tests.support.raw_detokenize import RawDetokenize, RunningTokenizer, running_tokenizer
from tokenizer_svc.registry import ModelRegistry
from worker.engine.paced import PacedEngine
from worker.engine.paced_settings import PacedSettings

INVALID_KEY = errors_pb2.ERROR_REASON_INVALID_API_KEY
MISSING = errors_pb2.ERROR_REASON_MODEL_NOT_FOUND


@pytest.fixture
def registry(tmp_path: Path) -> ModelRegistry:
    """One small model, `small`."""
    return small_registry(tmp_path)


@pytest.fixture
def ring(tmp_path: Path) -> Callable[..., KeyRing]:
    """Keys in force, from entries."""
    return lambda *entries: KeyRing(write_keys(tmp_path / "keys.toml", *entries))


def unary_calls(tokenizer: RunningTokenizer, key: str | None) -> list[Awaitable[Any]]:
    """One call of every unary method."""
    stub, metadata = tokenizer.stub, OwnKey(key).metadata()
    message = Message(role="user", content="Hello")
    return [
        stub.Render(RenderRequest(messages=[message]), metadata=metadata),
        stub.Encode(EncodeRequest(text="Hello"), metadata=metadata),
        stub.Decode(DecodeRequest(token_ids=[1, 2]), metadata=metadata),
        stub.CountTokens(CountTokensRequest(text="Hello"), metadata=metadata),
        stub.GetModel(GetModelRequest(), metadata=metadata),
    ]


async def refusal(call: Awaitable[Any]) -> ServiceError:
    """What a call is refused with."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return error_from_rpc(caught.value, peer="tokenizer")


async def test_every_method_wants_a_known_key(
    registry: ModelRegistry, ring: Callable[..., KeyRing]
) -> None:
    """Unary calls and the stream; with the key all are answered."""
    async with running_tokenizer(registry, keys=ring(entry(KEY))) as tokenizer:
        for key in (None, OTHER_KEY):
            for call in unary_calls(tokenizer, key):
                assert (await refusal(call)).reason == INVALID_KEY
            error = await refusal(RawDetokenize(tokenizer.stub, key).call.read())
            assert error.reason == INVALID_KEY
        for call in unary_calls(tokenizer, KEY):
            assert await call


async def test_models_that_a_key_does_not_admit_are_unknown(
    registry: ModelRegistry, ring: Callable[..., KeyRing]
) -> None:
    """On unary calls and for each output of a stream; a key without any model sees none."""
    keys = ring(entry(KEY, more='models = ["large"]'), entry(OTHER_KEY, more='models = ["small"]'))
    async with running_tokenizer(registry, keys=keys) as tokenizer:
        for call in unary_calls(tokenizer, KEY):
            assert (await refusal(call)).reason == MISSING
        *_, get_model = unary_calls(tokenizer, OTHER_KEY)
        assert list((await get_model).served_models) == ["small"]
        raw = RawDetokenize(tokenizer.stub, KEY)
        await raw.send(opens=[DetokenizeOpen(handle=1, decoder=registry.find("").decoder())])
        failure = await _failure(raw)

        assert failure == MISSING
        raw.call.cancel()


async def _failure(raw: RawDetokenize) -> int:
    while not (frame := await raw.read()).failures:
        pass
    return frame.failures[0].failure.reason


async def test_calls_and_their_tokens_are_counted(
    registry: ModelRegistry, ring: Callable[..., KeyRing]
) -> None:
    """Tokens are charged when they are known; asking what is served costs nothing."""
    keys = ring(entry(KEY, more="requests_per_minute = 4\ntokens_per_minute = 1000"))
    holder = keys.find(KEY)
    assert holder is not None
    async with running_tokenizer(registry, keys=keys) as tokenizer:
        render, encode, decode, count, get_model = unary_calls(tokenizer, KEY)
        used = len((await render).prompt_token_ids) + len((await encode).token_ids)
        used += 2 + (await count).tokens
        await decode
        await get_model
        error = await refusal(unary_calls(tokenizer, KEY)[1])
        left = holder.allowance.quota("tokens", keys.clock())

        assert error.reason == errors_pb2.ERROR_REASON_RATE_LIMITED
        assert left is not None
        assert left.remaining == pytest.approx(1000 - used, abs=20)


async def test_tokens_that_are_owed_keep_the_next_call_waiting(
    registry: ModelRegistry, ring: Callable[..., KeyRing]
) -> None:
    """A text's size is known only afterwards: it is let in, and then paid for."""
    keys = ring(entry(KEY, more="tokens_per_minute = 10"))
    async with running_tokenizer(registry, keys=keys) as tokenizer:
        metadata = OwnKey(KEY).metadata()
        text = EncodeRequest(text="Hello, world! " * 20)
        owed = len((await tokenizer.stub.Encode(text, metadata=metadata)).token_ids) - 10
        error = await refusal(tokenizer.stub.Encode(text, metadata=metadata))

        assert error.retry_after_seconds == pytest.approx((owed + 1) * 6, abs=2)


async def test_a_removed_key_opens_nothing_more(
    registry: ModelRegistry, ring: Callable[..., KeyRing], tmp_path: Path
) -> None:
    """The stream says that it takes nothing new, and ends since nothing is open."""
    keys = ring(entry(KEY))
    async with running_tokenizer(registry, keys=keys) as tokenizer:
        raw = RawDetokenize(tokenizer.stub, KEY)
        await raw.send()
        await raw.read()
        write_keys(tmp_path / "keys.toml", entry(OTHER_KEY))
        await keys.reload()
        await raw.send(opens=[DetokenizeOpen(handle=1, decoder=registry.find("").decoder())])
        failure = await _failure(raw)

        assert failure == errors_pb2.ERROR_REASON_DRAINING
        while await raw.call.read() is not grpc.aio.EOF:
            pass


@asynccontextmanager
async def client(
    registry: ModelRegistry, keys: KeyRing, key: str | None
) -> AsyncIterator[HeadraceClient]:
    """A client of a worker and a tokenizer that both demand keys, each with counts of its own."""
    others = KeyRing(keys.file)
    engine = PacedEngine(registry.find("").directory, PacedSettings(tokens_per_second=2000))
    async with AsyncExitStack() as stack:
        worker = await stack.enter_async_context(running_worker(engine, keys=keys))
        tokenizer = await stack.enter_async_context(running_tokenizer(registry, keys=others))
        address = f"127.0.0.1:{tokenizer.server.port}"
        yield await stack.enter_async_context(
            HeadraceClient([worker.address], [address], api_key=key, connect_timeout_seconds=2)
        )


async def test_the_client_shows_its_key(
    registry: ModelRegistry, ring: Callable[..., KeyRing]
) -> None:
    """From rendering to the last token; limits of the key come out as what they are."""
    keys = ring(entry(KEY, more="requests_per_minute = 1"))
    async with client(registry, keys, KEY) as headrace:
        async with headrace.chat(HELLO, max_tokens=5) as answer:
            await answer.text()
        with pytest.raises(ServiceError) as caught:
            async with headrace.chat(HELLO, max_tokens=5):
                pass

    assert sum(answer.usage.completion_tokens) == 5
    assert caught.value.reason == errors_pb2.ERROR_REASON_RATE_LIMITED


@pytest.mark.parametrize("key", [None, OTHER_KEY])
async def test_the_client_is_told_that_its_key_is_wrong(
    registry: ModelRegistry, ring: Callable[..., KeyRing], key: str | None
) -> None:
    """Entering says so, and not that nobody is there."""
    with pytest.raises(ServiceError) as caught:
        async with client(registry, ring(entry(KEY)), key):
            pass

    assert caught.value.reason == INVALID_KEY

"""The official client against a real edge: what it parses, and which exceptions it raises."""

import asyncio
from collections.abc import AsyncIterator

import openai
import pytest

from headrace.common.v1 import errors_pb2
from headrace.rpc.errors import Reason, ServiceError
from tests.support.edge_server import running_edge
from tests.support.fake_backend import MODEL, FakeBackend

MESSAGES = [{"role": "user", "content": "hello"}]


@pytest.fixture
def backend() -> FakeBackend:
    return FakeBackend()


@pytest.fixture
async def client(backend: FakeBackend) -> AsyncIterator[openai.AsyncOpenAI]:
    async with (
        running_edge(backend, admission={"max_concurrent_requests": 8}) as edge,
        openai.AsyncOpenAI(
            base_url=f"http://127.0.0.1:{edge.port}/v1", api_key="sk-ps-...", max_retries=0
        ) as client,
    ):
        yield client


async def test_whole_answer(client: openai.AsyncOpenAI) -> None:
    """A whole answer parses into the client's type with its counts."""
    answer = await client.chat.completions.create(model=MODEL.name, messages=MESSAGES, n=2)

    assert answer.id.startswith("chatcmpl-")
    assert answer.model == MODEL.name
    assert answer.service_tier == "default"
    assert answer.system_fingerprint == "fp_test"
    assert [(0, "Hello world", "stop"), (1, "Hello world", "stop")] == [
        (choice.index, choice.message.content, choice.finish_reason) for choice in answer.choices
    ]
    assert answer.choices[0].message.refusal is None
    assert answer.choices[0].message.annotations == []
    assert answer.usage is not None
    assert (10, 4, 14) == (
        answer.usage.prompt_tokens,
        answer.usage.completion_tokens,
        answer.usage.total_tokens,
    )
    assert answer.usage.prompt_tokens_details is not None
    assert answer.usage.prompt_tokens_details.cached_tokens == 0


async def test_stream(client: openai.AsyncOpenAI) -> None:
    """A stream has one id, the role once an output, the text, a finish an output, and the usage."""
    stream = await client.chat.completions.create(
        model=MODEL.name,
        messages=MESSAGES,
        n=2,
        stream=True,
        stream_options={"include_usage": True},
    )
    chunks = [chunk async for chunk in stream]

    *body, last = chunks
    assert len({(chunk.id, chunk.created) for chunk in chunks}) == 1
    assert all(chunk.usage is None for chunk in body)
    assert last.choices == []
    assert last.usage is not None
    assert (10, 4) == (last.usage.prompt_tokens, last.usage.completion_tokens)
    for index in (0, 1):
        choices = [c for chunk in body for c in chunk.choices if c.index == index]
        assert ["assistant", *[None] * (len(choices) - 1)] == [c.delta.role for c in choices]
        assert "".join(c.delta.content or "" for c in choices) == "Hello world"
        assert [*[None] * (len(choices) - 1), "stop"] == [c.finish_reason for c in choices]


async def test_options_arrive(client: openai.AsyncOpenAI, backend: FakeBackend) -> None:
    """What the client asks for reaches the backend; what it does not stays unset."""
    await client.chat.completions.create(
        model=MODEL.name,
        messages=[{"role": "developer", "content": [{"type": "text", "text": "be brief"}]}],
        max_completion_tokens=9,
        temperature=0,
        stop="END",
        seed=5,
        extra_body={"top_k": 3, "min_tokens": 2, "ignore_eos": True, "stop_token_ids": [4]},
    )

    options = backend.generations[0].options
    assert (9, 2, 1, ("END",), (4,), True) == (
        options.max_tokens,
        options.min_tokens,
        options.n,
        options.stop_strings,
        options.stop_token_ids,
        options.ignore_eos,
    )
    assert {"temperature", "top_k", "seed"} == {
        field.name for field, _ in options.sampling.ListFields()
    }
    assert options.request_id.startswith("req_")
    assert options.deadline is not None
    assert [("developer", "be brief")] == [(m.role, m.content) for m in backend.conversations[0]]


async def test_ignored_fields_are_named(client: openai.AsyncOpenAI) -> None:
    """Fields without effect are named in a header, safely encoded."""
    response = await client.chat.completions.with_raw_response.create(
        model=MODEL.name, messages=MESSAGES, store=True, extra_body={"bad\r\nname é": 1}
    )

    assert "bad%0D%0Aname%20%C3%A9, store" == response.headers["x-headrace-ignored"]


async def test_models(client: openai.AsyncOpenAI) -> None:
    """Models are listed, and retrieved by an id with a slash."""
    listed = [model async for model in client.models.list()]
    shown = await client.models.retrieve(MODEL.name)

    assert [shown] == listed
    assert (MODEL.name, MODEL.created, "model") == (shown.id, shown.created, shown.object)


async def test_unknown_model(client: openai.AsyncOpenAI) -> None:
    """An unknown model is a NotFoundError in both places."""
    with pytest.raises(openai.NotFoundError) as caught:
        await client.chat.completions.create(model="gpt-9", messages=MESSAGES)
    assert caught.value.code == "model_not_found"
    assert caught.value.request_id
    with pytest.raises(openai.NotFoundError):
        await client.models.retrieve("gpt-9")


async def test_bad_request(client: openai.AsyncOpenAI) -> None:
    """A value out of range is a BadRequestError that names the parameter."""
    with pytest.raises(openai.BadRequestError) as caught:
        await client.chat.completions.create(model=MODEL.name, messages=MESSAGES, temperature=123)

    assert ("temperature", "decimal_above_max_value", "invalid_request_error") == (
        caught.value.param,
        caught.value.code,
        caught.value.type,
    )


@pytest.mark.parametrize(
    ("reason", "exception", "status"),
    [
        (errors_pb2.ERROR_REASON_CONTEXT_LENGTH_EXCEEDED, openai.BadRequestError, 400),
        (errors_pb2.ERROR_REASON_RATE_LIMITED, openai.RateLimitError, 429),
        (errors_pb2.ERROR_REASON_ENGINE_FAILURE, openai.InternalServerError, 500),
        (errors_pb2.ERROR_REASON_WORKER_LOST, openai.InternalServerError, 502),
        (errors_pb2.ERROR_REASON_NO_WORKER_AVAILABLE, openai.InternalServerError, 503),
        (errors_pb2.ERROR_REASON_DEADLINE_EXCEEDED, openai.InternalServerError, 504),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
async def test_failure_before_headers(
    client: openai.AsyncOpenAI,
    backend: FakeBackend,
    reason: Reason,
    exception: type[openai.APIStatusError],
    status: int,
    stream: bool,
) -> None:
    """What fails before the first byte has its own status, streaming or not."""
    backend.generate_error = ServiceError(reason, "it failed")

    with pytest.raises(exception) as caught:
        await client.chat.completions.create(model=MODEL.name, messages=MESSAGES, stream=stream)

    assert (status, "it failed") == (caught.value.status_code, caught.value.body["message"])


async def test_failure_in_stream(client: openai.AsyncOpenAI, backend: FakeBackend) -> None:
    """A failure after the headers raises, after the text that came before it."""
    backend.texts = None
    stream = await _begun(client, backend)
    generation = backend.generations[0]
    generation.text("partly")
    texts = [(await anext(stream)).choices[0].delta.content for _ in range(2)]
    generation.fail(ServiceError(errors_pb2.ERROR_REASON_WORKER_LOST, "worker gone"))

    with pytest.raises(openai.APIError) as caught:
        await anext(stream)

    assert ["", "partly"] == texts
    assert ("worker gone", "worker_lost") == (caught.value.message, caught.value.code)


async def _begun(
    client: openai.AsyncOpenAI, backend: FakeBackend
) -> openai.AsyncStream[openai.types.chat.ChatCompletionChunk]:
    async def start() -> None:
        (await backend.next_generation()).start()

    starting = asyncio.create_task(start())
    stream = await client.chat.completions.create(model=MODEL.name, messages=MESSAGES, stream=True)
    await starting
    return stream


async def test_retry_is_stopped(backend: FakeBackend) -> None:
    """A failure that a retry would repeat is sent once, although the client retries by default."""
    backend.generate_error = ServiceError(errors_pb2.ERROR_REASON_ENGINE_FAILURE, "poison")
    async with (
        running_edge(backend) as edge,
        openai.AsyncOpenAI(base_url=f"http://127.0.0.1:{edge.port}/v1", api_key="k") as client,
    ):
        with pytest.raises(openai.InternalServerError):
            await client.chat.completions.create(model=MODEL.name, messages=MESSAGES)

    assert len(backend.conversations) == 1

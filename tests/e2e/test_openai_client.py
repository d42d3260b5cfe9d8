"""The official client, against the default model."""

import asyncio
from collections.abc import AsyncIterator

import openai
import pytest

from tests.support.stack import MODEL, Stack

pytestmark = pytest.mark.model

_QUESTION = [{"role": "user", "content": "Count from one to ten in words."}]
_LONG = "The river carries water from the mountain lake to the mill and on to the sea. " * 20


@pytest.fixture
async def client(real: Stack) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(
        base_url=f"{real.edge.url}/v1", api_key="unused", max_retries=0, timeout=120
    ) as client:
        yield client


async def test_whole_answer(client: openai.AsyncOpenAI) -> None:
    """A request without streaming gives text, a finish reason and counts that add up."""
    answer = await client.chat.completions.create(
        model=MODEL, messages=_QUESTION, max_tokens=12, temperature=0
    )

    choice = answer.choices[0]
    assert choice.message.role == "assistant"
    assert choice.message.content
    assert choice.finish_reason == "length"
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 12
    total = answer.usage.prompt_tokens + answer.usage.completion_tokens
    assert answer.usage.total_tokens == total
    assert answer.system_fingerprint


async def test_streamed_answer(client: openai.AsyncOpenAI) -> None:
    """A streamed answer has one role, text in several chunks, one finish and one usage chunk."""
    stream = await client.chat.completions.create(
        model=MODEL,
        messages=_QUESTION,
        max_tokens=12,
        temperature=0,
        stream=True,
        stream_options={"include_usage": True},
    )
    chunks = [chunk async for chunk in stream]

    choices = [choice for chunk in chunks for choice in chunk.choices]
    assert [choice.delta.role for choice in choices if choice.delta.role] == ["assistant"]
    assert len([choice for choice in choices if choice.delta.content]) > 4
    assert [choice.finish_reason for choice in choices if choice.finish_reason] == ["length"]
    assert len({chunk.id for chunk in chunks}) == 1
    assert [chunk.usage is not None for chunk in chunks].count(True) == 1
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == 12


@pytest.mark.wire("A4.seed", "A5.determinism", "E14")
async def test_streamed_text_is_the_whole_text(client: openai.AsyncOpenAI) -> None:
    """The same seeded question gives the same text streamed and as a whole."""
    whole = await client.chat.completions.create(
        model=MODEL, messages=_QUESTION, max_tokens=40, temperature=0.7, seed=11
    )
    stream = await client.chat.completions.create(
        model=MODEL, messages=_QUESTION, max_tokens=40, temperature=0.7, seed=11, stream=True
    )
    text = "".join([chunk.choices[0].delta.content or "" async for chunk in stream])

    assert whole.choices[0].message.content == text


@pytest.mark.wire("A1.reuse")
async def test_cached_tokens_of_a_shared_prefix(client: openai.AsyncOpenAI) -> None:
    """The second request with a long shared prefix reports the tokens that it did not compute."""

    async def cached_tokens(question: str) -> tuple[int, int]:
        answer = await client.chat.completions.create(
            model=MODEL,
            messages=[{"role": "system", "content": _LONG}, {"role": "user", "content": question}],
            max_tokens=4,
        )
        assert answer.usage is not None
        assert answer.usage.prompt_tokens_details is not None
        return answer.usage.prompt_tokens, answer.usage.prompt_tokens_details.cached_tokens or 0

    _, cold = await cached_tokens("What turns the mill?")
    prompt_tokens, warm = await cached_tokens("Where does the river end?")

    assert cold == 0
    assert prompt_tokens - 64 <= warm < prompt_tokens
    assert warm % 32 == 0


async def test_models(client: openai.AsyncOpenAI) -> None:
    """The served model is listed and can be retrieved by its name."""
    listed = await client.models.list()
    model = await client.models.retrieve(MODEL)

    assert [each.id for each in listed.data] == [MODEL]
    assert model.id == MODEL
    assert model.object == "model"


async def test_unknown_model(client: openai.AsyncOpenAI) -> None:
    """A model that is not served raises NotFoundError, for an answer and for a look-up."""
    with pytest.raises(openai.NotFoundError) as asked:
        await client.chat.completions.create(model="none", messages=_QUESTION)
    with pytest.raises(openai.NotFoundError):
        await client.models.retrieve("some/other")

    assert asked.value.code == "model_not_found"


@pytest.mark.parametrize(
    ("field", "value"),
    [("temperature", 3), ("max_tokens", 0), ("top_p", -1), ("n", 0), ("seed", 2**70)],
)
async def test_out_of_range(client: openai.AsyncOpenAI, field: str, value: float) -> None:
    """A value out of range raises BadRequestError that names the parameter."""
    with pytest.raises(openai.BadRequestError) as caught:
        await client.chat.completions.create(model=MODEL, messages=_QUESTION, **{field: value})

    assert caught.value.param == field
    assert caught.value.type == "invalid_request_error"


@pytest.mark.parametrize("stream", [False, True])
async def test_prompt_beyond_the_context(client: openai.AsyncOpenAI, stream: bool) -> None:
    """A prompt longer than the context raises BadRequestError before anything is streamed."""
    messages = [{"role": "user", "content": "water " * 20_000}]

    with pytest.raises(openai.BadRequestError) as caught:
        await client.chat.completions.create(model=MODEL, messages=messages, stream=stream)

    assert caught.value.code == "context_length_exceeded"


async def test_thirty_two_streams(client: openai.AsyncOpenAI) -> None:
    """Thirty-two streams at once all end by themselves with all their tokens counted."""

    async def one(number: int) -> tuple[int, str | None]:
        stream = await client.chat.completions.create(
            model=MODEL,
            messages=[{"role": "user", "content": f"Tell me a story about the number {number}."}],
            max_tokens=48,
            temperature=0.8,
            seed=number,
            stream=True,
            stream_options={"include_usage": True},
        )
        chunks = [chunk async for chunk in stream]
        reasons = [c.finish_reason for chunk in chunks for c in chunk.choices if c.finish_reason]
        assert chunks[-1].usage is not None
        return chunks[-1].usage.completion_tokens, reasons[0]

    results = await asyncio.gather(*(one(number) for number in range(32)))

    assert len(results) == 32
    assert all(reason == "stop" or tokens == 48 for tokens, reason in results)

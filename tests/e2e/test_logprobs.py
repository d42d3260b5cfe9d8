"""Log probabilities over HTTP, with the official client, of the default model."""

import math
from collections.abc import AsyncIterator, Sequence
from typing import Any

import openai
import pytest
from openai.types.chat import ChatCompletionTokenLogprob as Entry
from tokenizers import Tokenizer

from headrace.models.cache import resolve_model
from tests.support.stack import MODEL, Stack

pytestmark = pytest.mark.model

COUNT = [{"role": "user", "content": "Count from one to ten in words."}]
EMOJI = [{"role": "user", "content": "Repeat exactly, again and again: 😀🎉 日本語 👩‍👩‍👧 é 🌍🌍"}]
WILD = {"temperature": 2.0, "max_tokens": 60}


@pytest.fixture
async def client(exact: Stack) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(
        base_url=f"{exact.edge.url}/v1", api_key="unused", max_retries=0, timeout=120
    ) as client:
        yield client


def spelled(entries: Sequence[Entry]) -> str:
    """The text of the entries; fails where their bytes are no UTF-8."""
    return b"".join(bytes(entry.bytes or ()) for entry in entries).decode()


def holds(entry: Entry) -> None:
    """What is true of every entry, whatever was drawn."""
    raw = bytes(entry.bytes or ())
    assert raw
    assert entry.token == raw.decode("utf-8", "replace")
    assert math.isfinite(entry.logprob)
    assert entry.logprob <= 0
    for top in entry.top_logprobs:
        assert top.token == bytes(top.bytes or ()).decode("utf-8", "replace")
    values = [top.logprob for top in entry.top_logprobs]
    assert values == sorted(values, reverse=True)
    assert sum(map(math.exp, values)) <= 1.001


async def whole(client: openai.AsyncOpenAI, **fields: Any) -> list[tuple[str, list[Entry]]]:
    """Text and entries of each choice of an answer that is not streamed."""
    answer = await client.chat.completions.create(model=MODEL, logprobs=True, **fields)
    found = []
    for choice in answer.choices:
        assert choice.logprobs is not None
        assert choice.logprobs.refusal is None
        found.append((choice.message.content or "", choice.logprobs.content or []))
    return found


async def streamed(client: openai.AsyncOpenAI, **fields: Any) -> list[tuple[str, list[Entry]]]:
    """The same of a streamed one; every chunk's entries spell the chunk's own text."""
    found: list[tuple[str, list[Entry]]] = [("", []) for _ in range(fields.get("n", 1))]
    stream = await client.chat.completions.create(model=MODEL, logprobs=True, stream=True, **fields)
    async for chunk in stream:
        for choice in chunk.choices:
            text = choice.delta.content or ""
            entries = (choice.logprobs.content or []) if choice.logprobs else []
            assert spelled(entries) == text
            before, earlier = found[choice.index]
            found[choice.index] = before + text, earlier + entries
    return found


@pytest.mark.wire("E6")
@pytest.mark.parametrize("messages", [COUNT, EMOJI], ids=["words", "emoji"])
async def test_streamed_is_whole_and_the_bytes_spell_the_text(
    client: openai.AsyncOpenAI, messages: list[dict[str, str]]
) -> None:
    """Both forms say the same entries, one a token, greedy ones the most probable."""
    fields = {"messages": messages, "max_tokens": 32, "temperature": 0, "top_logprobs": 5}
    [(text, entries)] = await whole(client, **fields)
    [(streamed_text, streamed_entries)] = await streamed(client, **fields)

    assert (text, entries) == (streamed_text, streamed_entries)
    assert spelled(entries) == text
    assert len(entries) == 32
    for entry in entries:
        holds(entry)
        assert len(entry.top_logprobs) == 5
        assert entry.logprob == pytest.approx(entry.top_logprobs[0].logprob)


@pytest.mark.wire("E6")
async def test_characters_of_several_tokens(client: openai.AsyncOpenAI) -> None:
    """Where nothing but parts of characters can be drawn, chunks still spell their own text."""
    tokenizer = Tokenizer.from_file(str(resolve_model(MODEL) / "tokenizer.json"))
    parts = {str(token_id): 100.0 for token_id in tokenizer.encode("😀🌍日é").ids}
    fields = {"messages": EMOJI, "seed": 5, "max_tokens": 40, "logit_bias": parts}
    [(text, entries)] = await streamed(client, **fields)

    assert spelled(entries) == text
    assert len(entries) == 40
    assert any("\ufffd" in entry.token for entry in entries)
    assert any(ord(character) > 0x2000 and character != "\ufffd" for character in text)


@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.slow)])
async def test_wild_answers_are_spelled_too(client: openai.AsyncOpenAI, seed: int) -> None:
    """Whatever bytes are drawn, the entries' are the text's, U+FFFD included; n = 2, two texts."""
    fields = {"messages": EMOJI, "seed": seed, "n": 2, "top_logprobs": 20, **WILD}
    answers = await whole(client, **fields)

    assert answers == await streamed(client, **fields)
    assert answers[0][0] != answers[1][0]
    for text, entries in answers:
        assert spelled(entries) == text
        for entry in entries:
            holds(entry)


async def test_without_alternatives(client: openai.AsyncOpenAI) -> None:
    """Alone it gives each token's own and empty lists."""
    [(text, entries)] = await whole(client, messages=COUNT, max_tokens=8, temperature=0)

    assert spelled(entries) == text
    assert [entry.top_logprobs for entry in entries] == [[]] * 8


async def test_what_was_not_asked_for_is_null(client: openai.AsyncOpenAI) -> None:
    """Without logprobs every choice has null, streamed or not."""
    fields: Any = {"model": MODEL, "messages": COUNT, "max_tokens": 3}
    answer = await client.chat.completions.create(**fields)
    stream = await client.chat.completions.create(stream=True, **fields)

    assert answer.choices[0].logprobs is None
    assert all([chunk.choices[0].logprobs is None async for chunk in stream])


@pytest.mark.wire("E6", "E11")
async def test_a_stop_string_ends_the_entries_with_the_text(client: openai.AsyncOpenAI) -> None:
    """What it removed has no entry; the token in which it begins keeps what is in front of it."""
    fields = {"messages": COUNT, "max_tokens": 32, "temperature": 0}
    [(text, _)] = await whole(client, **fields)
    stop = text[9:13]
    [(cut, entries)] = await whole(client, stop=stop, **fields)
    [(streamed_cut, streamed_entries)] = await streamed(client, stop=stop, **fields)

    assert cut == text.partition(stop)[0]
    assert spelled(entries) == cut
    assert (cut, entries) == (streamed_cut, streamed_entries)


async def test_an_end_token_has_no_entry(client: openai.AsyncOpenAI) -> None:
    """It counts, and is never spelled."""
    answer = await client.chat.completions.create(
        model=MODEL,
        messages=[{"role": "user", "content": "Say hi."}],
        temperature=0,
        max_tokens=200,
        logprobs=True,
        top_logprobs=2,
    )
    choice = answer.choices[0]
    assert choice.logprobs is not None
    assert answer.usage is not None
    entries = choice.logprobs.content or []

    assert choice.finish_reason == "stop"
    assert len(entries) == answer.usage.completion_tokens - 1
    assert spelled(entries) == choice.message.content

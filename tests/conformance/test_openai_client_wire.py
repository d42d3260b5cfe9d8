"""The official client: log probabilities, raw headers, gathered streams, ids of errors."""

import dataclasses
from collections.abc import AsyncIterator

import openai
import pytest

from headrace.client.answer_events import TokenLogprob
from tests.support.chat_requests import WHOLE
from tests.support.edge_server import running_edge
from tests.support.fake_backend import MODEL, FakeBackend, FakeGeneration

MESSAGES = [{"role": "user", "content": "hello"}]


class _Logprobs(FakeBackend):
    """Answers with one character that two tokens spell, and a word."""

    def generate(self, *arguments: object) -> FakeGeneration:
        self.texts = None
        generation = super().generate(*arguments)
        if generation.options.logprobs is None:
            generation.answer(["é", " yes"])
            return generation
        first, rest = "é".encode()[:1], "é".encode()[1:]
        generation.start()
        generation.tokens(
            TokenLogprob(first, -1.5, ((first, -1.5), (b"e", -1.75))),
            TokenLogprob(rest, -0.5, ((rest, -0.5),)),
        )
        generation.tokens(TokenLogprob(b" yes", -0.25, ((b" yes", -0.25),)))
        generation.finish()
        generation.done()
        return generation


@pytest.fixture
async def client() -> AsyncIterator[openai.AsyncOpenAI]:
    backend = _Logprobs(models=(dataclasses.replace(WHOLE, max_outputs=4),))
    async with (
        running_edge(backend) as edge,
        openai.AsyncOpenAI(
            base_url=f"http://127.0.0.1:{edge.port}/v1", api_key="k", max_retries=0
        ) as client,
    ):
        yield client


@pytest.mark.wire("E6", "A3.logprobs", "A3.top_logprobs")
async def test_logprobs(client: openai.AsyncOpenAI) -> None:
    """Typed entries: a partial character has its bytes, and all bytes spell the text."""
    answer = await client.chat.completions.create(
        model=MODEL.name, messages=MESSAGES, logprobs=True, top_logprobs=2
    )

    choice = answer.choices[0]
    assert choice.logprobs is not None
    assert choice.logprobs.refusal is None
    entries = choice.logprobs.content or []
    assert ["\ufffd", "\ufffd", " yes"] == [entry.token for entry in entries]
    assert [-1.5, -0.5, -0.25] == [entry.logprob for entry in entries]
    assert [["\ufffd", "e"], ["\ufffd"], [" yes"]] == [
        [top.token for top in entry.top_logprobs] for entry in entries
    ]
    spelt = bytes(byte for entry in entries for byte in entry.bytes or ())
    assert spelt.decode() == choice.message.content == "é yes"


@pytest.mark.wire("E6")
async def test_streamed_logprobs(client: openai.AsyncOpenAI) -> None:
    """Each chunk's entries spell its own text; without asking there are none."""
    stream = await client.chat.completions.create(
        model=MODEL.name, messages=MESSAGES, logprobs=True, stream=True
    )
    texts = []
    async for chunk in stream:
        choice = chunk.choices[0]
        entries = (choice.logprobs.content if choice.logprobs else None) or []
        spelt = bytes(byte for entry in entries for byte in entry.bytes or ())
        assert spelt.decode() == (choice.delta.content or "")
        texts.append(spelt.decode())
    plain = await client.chat.completions.create(model=MODEL.name, messages=MESSAGES)

    assert "".join(texts) == "é yes"
    assert plain.choices[0].logprobs is None


@pytest.mark.wire("E16", "E2")
@pytest.mark.parametrize("stream", [False, True])
async def test_raw_headers(client: openai.AsyncOpenAI, stream: bool) -> None:
    """The request's id is in the headers of whole answers and of streams, and no completion's."""
    raw = await client.chat.completions.with_raw_response.create(
        model=MODEL.name, messages=MESSAGES, stream=stream
    )
    parsed = raw.parse()
    ids = {chunk.id async for chunk in parsed} if stream else {parsed.id}

    request_id = raw.headers["x-request-id"]
    assert request_id.startswith("req_")
    assert raw.request_id == request_id
    (completion_id,) = ids
    assert completion_id.startswith("chatcmpl-")
    assert request_id.removeprefix("req_") not in completion_id


@pytest.mark.wire("E9", "E1", "E3")
async def test_the_clients_own_gathering(client: openai.AsyncOpenAI) -> None:
    """The helper that gathers a stream into an answer gets what the answer would have been."""
    async with client.chat.completions.stream(model=MODEL.name, messages=MESSAGES, n=2) as stream:
        async for _ in stream:
            pass
        answer = await stream.get_final_completion()

    assert [(0, "é yes", "stop"), (1, "é yes", "stop")] == [
        (choice.index, choice.message.content, choice.finish_reason) for choice in answer.choices
    ]


@pytest.mark.wire("E16")
async def test_ids_of_errors(client: openai.AsyncOpenAI) -> None:
    """The client's exceptions carry the request's id, of every kind of refusal."""
    for change in ({"model": "none"}, {"temperature": 3}, {"messages": []}):
        fields = {"model": MODEL.name, "messages": MESSAGES, **change}
        with pytest.raises(openai.APIStatusError) as caught:
            await client.chat.completions.create(**fields)
        assert (caught.value.request_id or "").startswith("req_")
        assert caught.value.response.headers["x-should-retry"] == "false"

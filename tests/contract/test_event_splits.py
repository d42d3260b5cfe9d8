"""Answers in a format through the real tokenizer: however tokens come, nothing is lost or twice."""

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest

from headrace.client.answer_events import (
    AnswerEvent,
    CallArguments,
    CallBegin,
    CallEnd,
    ContentDelta,
    ReasoningDelta,
)
from headrace.client.answers import RenderedPrompt
from headrace.client.backend import GrpcChatBackend
from headrace.common.v1.finish_pb2 import FINISH_REASON_STOP
from headrace.worker.v1.attach_pb2 import AttachResponse
from headrace.worker.v1.generation_pb2 import OutputLogprobs
from tests.support import scripted_worker as wrk
from tests.support.raw_detokenize import running_tokenizer
from tests.support.recording_consumer import RecordingConsumer
from tests.support.scripted_scene import generation_options
from tests.support.scripted_stream import ScriptedStream
from tests.support.tokenizer_models import train_tokenizer, write_model
from tokenizer_svc.detokenizer import DecodingRules
from tokenizer_svc.formats.events import EventKind, OutputEvent
from tokenizer_svc.formatted_detokenizer import FormatRules, FormattedDetokenizer
from tokenizer_svc.registry import ModelRegistry, TokenizerModel
from tokenizer_svc.settings import TokenizerSettings

FORMATS = ("hermes", "qwen3", "qwen3+hermes")
MARKERS = ("<tool_call>", "</tool_call>", "<think>", "</think>")
STOP = "wheel"
PIECES = [
    *MARKERS,
    '\n{"name": "f", "arguments": {"a": "é😀 日本',
    '\n{"name": "g", "arguments": {}}\n',
    *(
        '"}}\n',
        "}}",
        "\n",
        "\n\n",
        " ",
        "Hello, world!",
        "The 😀 turns",
        " < 3",
        "the whe",
        "wheel",
    ),
]
FORMS = {
    EventKind.CONTENT: lambda event: ContentDelta(event.text),
    EventKind.REASONING: lambda event: ReasoningDelta(event.text),
    EventKind.CALL_BEGIN: lambda event: CallBegin(event.call, event.text),
    EventKind.ARGUMENTS: lambda event: CallArguments(event.call, event.text),
    EventKind.CALL_END: lambda event: CallEnd(event.call, is_complete=True),
    EventKind.CALL_BROKEN: lambda event: CallEnd(event.call, is_complete=False),
}


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> ModelRegistry:
    """A small model that has a token for every marker."""
    document = train_tokenizer()
    first = max(document["model"]["vocab"].values()) + 1
    example = document["added_tokens"][0]
    document["added_tokens"] += [
        example | {"id": first + at, "content": text, "special": False}
        for at, text in enumerate(MARKERS)
    ]
    directory = write_model(tmp_path_factory.mktemp("splits") / "small", document)
    return ModelRegistry([TokenizerModel.load(directory, TokenizerSettings())])


@dataclass
class Answer:
    """One request: its tokens, how they are read, and who hears of it."""

    token_ids: list[int]
    output_format: str
    begins_in_reasoning: bool
    has_logprobs: bool
    stops: tuple[str, ...]
    consumer: RecordingConsumer
    handle: int = 0
    num_sent: int = 0


def any_answer(draw: random.Random, model: TokenizerModel) -> Answer:
    """Markup and text in any order, sometimes with an end token."""
    text = "".join(draw.choice(PIECES) for _ in range(draw.randrange(1, 14)))
    ids = model.encoder.encode(text)
    if draw.random() < 0.3:
        ids = ids[: draw.randrange(len(ids) + 1)]  # within a character or a marker
    if draw.random() < 0.5:
        ids = [*ids, min(model.directory.end_token_ids)]
    return Answer(
        ids,
        draw.choice(FORMATS),
        begins_in_reasoning=draw.random() < 0.3,
        has_logprobs=draw.random() < 0.6,
        stops=(STOP, "nothing") if draw.random() < 0.5 else (),
        consumer=RecordingConsumer(),
    )


def expected(answer: Answer, registry: ModelRegistry) -> FormattedDetokenizer:
    """The state of one reader that gets all tokens at once, one by one."""
    model = registry.find("")
    output_format = registry.find_format(answer.output_format)
    vocabulary = model.vocabulary.showing(output_format.markers)
    state = FormattedDetokenizer(
        FormatRules(
            decoding=DecodingRules(vocabulary, (), model.directory.end_token_ids),
            stops=DecodingRules(vocabulary, answer.stops),
            output_format=output_format,
            tool_types={},
            begins_in_reasoning=answer.begins_in_reasoning,
            spells=answer.has_logprobs,
        )
    )
    state.feed(answer.token_ids)
    state.flush()
    return state


def joined(events: Sequence[AnswerEvent]) -> list[AnswerEvent]:
    """The events with the pieces of one text in one."""
    found: list[AnswerEvent] = []
    for event in events:
        last = found[-1] if found else None
        match last, event:
            case ((ContentDelta() | ReasoningDelta()), (ContentDelta() | ReasoningDelta())) if type(
                last
            ) is type(event):
                found[-1] = last._replace(text=last.text + event.text)
            case CallArguments(), CallArguments():
                found[-1] = last._replace(text=last.text + event.text)
            case _:
                found.append(event)
    return found


def as_answer_events(events: Sequence[OutputEvent]) -> list[AnswerEvent]:
    return joined([FORMS[event.kind](event) for event in events])


@asynccontextmanager
async def scene(registry: ModelRegistry) -> AsyncIterator[tuple[GrpcChatBackend, ScriptedStream]]:
    """A real tokenizer, and a worker whose frames are the test's own."""
    model = registry.find("")
    async with running_tokenizer(registry) as tokenizer, wrk.scripted_worker() as worker:
        worker.model.model = model.directory.name
        worker.model.tokenizer_fingerprint = model.directory.tokenizer_fingerprint
        worker.model.max_outputs = 1000
        backend = GrpcChatBackend([worker.address], [f"127.0.0.1:{tokenizer.server.port}"])
        await backend.start()
        try:
            stream = await worker.greeted()
            await backend.ready()
            yield backend, stream
        finally:
            await backend.stop()


def start(backend: GrpcChatBackend, model: TokenizerModel, answer: Answer) -> None:
    decoder = model.decoder()
    decoder.output_format = answer.output_format
    decoder.begins_in_reasoning = answer.begins_in_reasoning
    backend.generate(
        RenderedPrompt(model.directory.name, [5, 6, 7], decoder),
        generation_options(
            max_tokens=200,
            stop_strings=answer.stops,
            logprobs=0 if answer.has_logprobs else None,
        ),
        answer.consumer,
    )


def next_frame(draw: random.Random, answers: list[Answer]) -> AttachResponse:
    """Some tokens of some outputs; those that have all of theirs end."""
    frame = AttachResponse()
    for answer in draw.sample(answers, draw.randrange(1, len(answers) + 1)):
        count = draw.choice((1, 1, 1, 2, 5, 1000))
        ids = answer.token_ids[answer.num_sent : answer.num_sent + count]
        if ids:
            frame.MergeFrom(wrk.tokens(answer.handle, *ids))
        if ids and answer.has_logprobs:
            # Each token's own: its place.
            places = range(answer.num_sent, answer.num_sent + len(ids))
            entry = OutputLogprobs(handle=answer.handle, top_counts=[0] * len(ids))
            entry.logprobs.extend(-float(place) for place in places)
            frame.logprobs.append(entry)
        answer.num_sent += len(ids)
        if answer.num_sent == len(answer.token_ids):
            frame.MergeFrom(wrk.end(answer.handle, FINISH_REASON_STOP))
            answers.remove(answer)
    return frame


@pytest.mark.parametrize("seed", range(6))
async def test_nothing_is_lost_and_nothing_is_twice(registry: ModelRegistry, seed: int) -> None:
    """What consumers hear is what one reader of all tokens says, tokens and counts included."""
    draw = random.Random(seed)
    model = registry.find("")
    answers = [any_answer(draw, model) for _ in range(60)]
    async with scene(registry) as (backend, worker):
        for answer in answers:
            start(backend, model, answer)
        submissions = await worker.read_until("submissions", len(answers))
        for answer, submission in zip(answers, submissions, strict=True):
            answer.handle = submission.first_handle
            await worker.send(wrk.start(answer.handle))
        going = list(answers)
        while going:
            await worker.send(next_frame(draw, going))
        await asyncio.gather(*(answer.consumer.hears("done") for answer in answers))

    for answer in answers:
        state = expected(answer, registry)
        result = answer.consumer.results[0]
        assert joined(answer.consumer.events()) == as_answer_events(state.events)
        assert result.completion_tokens == state.consumed
        assert result.reasoning_tokens == state.reasoning_tokens <= result.completion_tokens
        assert (result.stop_string is None) == (state.stop_index is None)
        assert [(entry.token, -entry.logprob) for entry in answer.consumer.logprobs[0]] == [
            (token.spelled, place) for place, token in enumerate(state.spelled) if token.spelled
        ]


def test_the_answers_have_something_of_everything(registry: ModelRegistry) -> None:
    """The texts above have thoughts, calls, broken calls and stops among them."""
    draw = random.Random(0)
    answers = [any_answer(draw, registry.find("")) for _ in range(60)]
    states = [expected(answer, registry) for answer in answers]
    kinds = {event.kind for state in states for event in state.events}

    assert kinds == set(EventKind)
    assert any(state.stop_index == 0 for state in states)
    assert any(state.reasoning_tokens for state in states)

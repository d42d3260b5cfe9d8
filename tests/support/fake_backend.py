"""A backend without services: it answers what a test says, when the test says it."""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from headrace.client.answer_events import (
    AnswerEvent,
    ContentDelta,
    EventWriter,
    LogprobsWriter,
    TokenLogprob,
)
from headrace.client.answers import (
    AnswerConsumer,
    AnswerTimeline,
    AnswerTimes,
    AnswerUsage,
    Finish,
    GenerationOptions,
    OutputResult,
    RenderedPrompt,
    ServedModel,
)
from headrace.client.prompt_request import ChatMessage, PromptRequest
from headrace.rpc.errors import ServiceError
from headrace.telemetry.trace_context import NO_TRACE, TraceContext
from headrace.tokenizer.v1.render_pb2 import Decoder
from headrace.worker.v1.generation_pb2 import Guide

ALL_SAMPLING = frozenset(
    (
        "sampling.temperature",
        "sampling.top_p",
        "sampling.top_k",
        "sampling.min_p",
        "sampling.seed",
        "stop_token_ids",
        "ignore_eos",
        "min_tokens",
    )
)
MODEL = ServedModel(
    name="ps/paced-1.0",
    context_length=4096,
    honoured_fields=ALL_SAMPLING,
    max_outputs=4,
    max_logprobs=0,
    system_fingerprint="fp_test",
    created=1_700_000_000,
)


class FakeGeneration:
    """A request that was started; the test plays the worker."""

    def __init__(
        self, prompt: RenderedPrompt, options: GenerationOptions, consumer: AnswerConsumer
    ) -> None:
        self.prompt = prompt
        self.options = options
        self.consumer = consumer
        self.aborted = asyncio.Event()
        self.why_aborted: ServiceError | None = None
        self.timeline = AnswerTimeline()
        self.usage = AnswerUsage(
            completion_tokens=[0] * options.n, reasoning_tokens=[0] * options.n
        )
        self._writers: list[Callable[[str], None]] = []
        self._logprobs_writers: list[LogprobsWriter] = []
        self._event_writers: list[EventWriter] = []
        self.attempt()

    def abort(self, why: ServiceError | None = None) -> None:
        self.why_aborted = why
        self.aborted.set()

    def attempt(self) -> None:
        """The request is sent to a worker, for the first time or once more."""
        self.timeline = AnswerTimeline(self.timeline.attempts + 1)
        indexes = range(self.options.n)
        if self.prompt.has_events:
            self._event_writers = [self.consumer.event_writer(i) for i in indexes]
        elif self.options.logprobs is None:
            self._writers = [self.consumer.text_writer(i) for i in indexes]
        else:
            self._logprobs_writers = [self.consumer.logprobs_writer(i) for i in indexes]

    def start(self, *, cached: int = 0) -> None:
        """The worker takes the request up."""
        times = AnswerTimes(len(self.prompt.token_ids), cached, queue_ms=1, prefill_ms=2)
        self.usage.prompt_tokens = times.prompt_tokens
        self.usage.cached_prompt_tokens = cached
        self.timeline.started = time.monotonic()
        self.consumer.on_started(times)

    def _note_text(self) -> None:
        if self.timeline.first_text is None:
            self.timeline.first_text = time.monotonic()

    def text(self, text: str, index: int = 0) -> None:
        """A delta of one token."""
        self._note_text()
        self.usage.completion_tokens[index] += 1
        self._writers[index](text)

    def tokens(self, *entries: TokenLogprob, index: int = 0) -> None:
        """A delta of these tokens, with their log probabilities."""
        self._note_text()
        self.usage.completion_tokens[index] += len(entries)
        text = b"".join(entry.token for entry in entries).decode()
        self._logprobs_writers[index](text, entries)

    def events(
        self, *events: AnswerEvent, index: int = 0, tokens: Sequence[TokenLogprob] = ()
    ) -> None:
        """What one frame of an answer in an output format says, and the tokens released with it."""
        self._note_text()
        self.usage.completion_tokens[index] += len(tokens) or 1
        self._event_writers[index](events, tokens)

    def _token(self, text: str, index: int) -> None:
        tokens = (TokenLogprob(text.encode(), -0.5, ()),)
        if self.prompt.has_events:
            wanted = tokens if self.options.logprobs is not None else ()
            self.events(ContentDelta(text), index=index, tokens=wanted)
        elif self.options.logprobs is None:
            self.text(text, index)
        else:
            self.tokens(*tokens, index=index)

    def finish(self, index: int = 0, reason: Finish = "stop", *, reasoning: int = 0) -> None:
        """An output ends; so many of its tokens were thoughts."""
        self.usage.reasoning_tokens[index] = reasoning
        self.timeline.worker_ended = time.monotonic()
        num_tokens = self.usage.completion_tokens[index]
        self.consumer.on_finish(index, OutputResult(reason, num_tokens, None, reasoning))

    def done(self) -> None:
        """All outputs have ended."""
        self.timeline.ended = time.monotonic()
        self.consumer.on_done()

    def fail(self, error: ServiceError) -> None:
        """The request fails."""
        self.timeline.ended = time.monotonic()
        self.consumer.on_error(error)

    def answer(self, texts: Sequence[str], reason: Finish = "stop") -> None:
        """Everything at once, all outputs alike."""
        self.start()
        for index in range(self.options.n):
            for text in texts:
                self._token(text, index)
            self.finish(index, reason)
        self.done()


@dataclass
class FakeBackend:
    """Answers every request with `texts`, or as `play` does, or leaves that to the test.

    Answers come as events where functions may be called, or where `output_format` says so.

    `render_gate` holds rendering up until it is set; the errors are raised where their names say.
    """

    texts: Sequence[str] | None = ("Hello", " world")
    play: Callable[[FakeGeneration], None] | None = None
    models: Sequence[ServedModel] = (MODEL,)
    is_ready: bool = True
    output_format: str = ""
    guide: Guide | None = None
    render_gate: asyncio.Event | None = None
    render_error: Exception | None = None
    generate_error: Exception | None = None
    requests: list[PromptRequest] = field(default_factory=list)
    render_traces: list[tuple[TraceContext, str]] = field(default_factory=list)
    generations: list[FakeGeneration] = field(default_factory=list)
    rendering: asyncio.Event = field(default_factory=asyncio.Event)
    render_cancelled: asyncio.Event = field(default_factory=asyncio.Event)
    _started: asyncio.Queue[FakeGeneration] = field(default_factory=asyncio.Queue)

    async def render(
        self,
        request: PromptRequest,
        *,
        timeout_seconds: float,
        trace: TraceContext = NO_TRACE,
        request_id: str = "",
    ) -> RenderedPrompt:
        assert timeout_seconds > 0
        self.render_traces.append((trace, request_id))
        self.requests.append(request)
        self.rendering.set()
        if self.render_gate is not None:
            try:
                await self.render_gate.wait()
            except asyncio.CancelledError:
                self.render_cancelled.set()
                raise
        if self.render_error is not None:
            raise self.render_error
        output_format = self.output_format or ("hermes" if request.tools else "")
        decoder = Decoder(model=request.model, output_format=output_format)
        return RenderedPrompt(request.model, range(10), decoder, self.guide)

    def generate(
        self, prompt: RenderedPrompt, options: GenerationOptions, consumer: AnswerConsumer
    ) -> FakeGeneration:
        if self.generate_error is not None:
            raise self.generate_error
        generation = FakeGeneration(prompt, options, consumer)
        self.generations.append(generation)
        self._started.put_nowait(generation)
        if self.play is not None:
            asyncio.get_running_loop().call_soon(self.play, generation)
        elif self.texts is not None:
            asyncio.get_running_loop().call_soon(generation.answer, self.texts)
        return generation

    @property
    def conversations(self) -> list[tuple[ChatMessage, ...]]:
        """The messages of each request that was rendered."""
        return [request.messages for request in self.requests]

    async def next_generation(self) -> FakeGeneration:
        """The next request that reaches the backend."""
        return await self._started.get()

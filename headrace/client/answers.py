"""What a caller of the backend gives and gets: a prompt, generation options, and a consumer.

Everything here is about one request; nothing here does I/O. `headrace.client.backend` does it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from headrace.client.answer_events import EventWriter, LogprobsWriter
from headrace.client.prompt_request import PromptRequest
from headrace.rpc.errors import ServiceError
from headrace.telemetry.trace_context import NO_TRACE, TraceContext
from headrace.tokenizer.v1.detokenize_pb2 import FunctionSchema
from headrace.tokenizer.v1.render_pb2 import Decoder
from headrace.worker.v1.generation_pb2 import Guide, SamplingParams

Finish = Literal["stop", "length"]


@dataclass(frozen=True, slots=True)
class RenderedPrompt:
    """A prompt as tokenizer_svc rendered it: ids, how to decode the answer, and what it must be.

    `functions` are those that the answer may call; `guide` None = nothing is restricted.
    """

    model: str
    token_ids: Sequence[int]
    decoder: Decoder
    guide: Guide | None = None
    functions: tuple[FunctionSchema, ...] = ()

    @property
    def has_events(self) -> bool:
        """Whether the answer comes as events and not as plain text."""
        return self.decoder.output_format not in ("", "text")


@dataclass(frozen=True, slots=True)
class GenerationOptions:
    """What to generate. `sampling` is the wire's own message: unset fields stay unset.

    `max_tokens` None = to the end of the context. `logprobs`: log probabilities of each token and
    of this many alternatives; None = none at all. `deadline` is a time of the running event loop's
    clock, in seconds; None = no deadline. `trace` is the span that the request belongs to.
    """

    request_id: str
    sampling: SamplingParams
    max_tokens: int | None = None
    min_tokens: int = 0
    n: int = 1
    logprobs: int | None = None
    stop_strings: tuple[str, ...] = ()
    stop_token_ids: tuple[int, ...] = ()
    ignore_eos: bool = False
    cache_salt: str = ""
    priority: int = 0
    deadline: float | None = None
    trace: TraceContext = NO_TRACE


@dataclass(slots=True)
class OutputResult:
    """How one output ended. `completion_tokens` includes the token that completed the end."""

    finish_reason: Finish
    completion_tokens: int
    stop_string: str | None = None
    reasoning_tokens: int = 0


@dataclass(slots=True)
class AnswerTimes:
    """What the worker said when it took the request up; milliseconds."""

    prompt_tokens: int = 0
    cached_prompt_tokens: int = 0
    queue_ms: int = 0
    prefill_ms: int = 0


@dataclass(slots=True)
class AnswerUsage:
    """Tokens of a request so far; kept current by the backend, readable at any time."""

    prompt_tokens: int = 0
    cached_prompt_tokens: int = 0
    completion_tokens: list[int] = field(default_factory=list)
    reasoning_tokens: list[int] = field(default_factory=list)


@dataclass(slots=True)
class AnswerTimeline:
    """When what happened, in seconds of the monotonic clock; None = not yet.

    `attempts` counts from 1; what an attempt said that was lost is forgotten.
    """

    attempts: int = 0
    started: float | None = None
    """The worker said that it had taken the request up, which it does with its first tokens."""
    first_text: float | None = None
    """Before the consumer took the first text or event."""
    worker_ended: float | None = None
    """The worker's last end of an output came, or a stop string made it needless."""
    ended: float | None = None
    """The consumer has heard of the end."""


class AnswerConsumer(Protocol):
    """Takes an answer. Every call comes on the event loop; none may block or raise."""

    @property
    def has_delivered(self) -> bool:
        """Whether text, a logprob entry or a finish has reached the caller: then no retry."""

    def on_started(self, times: AnswerTimes) -> None:
        """The worker took the request up; once an attempt."""

    def text_writer(self, index: int) -> Callable[[str], None]:
        """The callable that takes output `index`'s text deltas, none of them empty.

        Asked for as an attempt begins, when all that an earlier one said is void, and called once a
        delta: the hot path.
        """

    def logprobs_writer(self, index: int) -> LogprobsWriter:
        """The same where the request asked for log probabilities."""

    def event_writer(self, index: int) -> EventWriter:
        """The same where the answer comes as events; asked for in place of the other two."""

    def on_finish(self, index: int, result: OutputResult) -> None:
        """Output `index` ended; nothing more comes for it."""

    def on_done(self) -> None:
        """All outputs ended."""

    def on_error(self, error: ServiceError) -> None:
        """The request failed; nothing more comes."""


class Generation(Protocol):
    """A running request."""

    @property
    def usage(self) -> AnswerUsage:
        """Tokens so far."""

    @property
    def timeline(self) -> AnswerTimeline:
        """Times so far."""

    def abort(self, why: ServiceError | None = None) -> None:
        """End it now, whatever it is doing; idempotent. No more calls to the consumer.

        `why` is for its spans; None = the caller no longer wants it.
        """


@dataclass(frozen=True, slots=True)
class ServedModel:
    """A model that at least one worker serves and one tokenizer renders, now or before.

    `honoured_fields` as in the worker's GetModelResponse; `created` in Unix seconds.
    """

    name: str
    context_length: int
    honoured_fields: frozenset[str]
    max_outputs: int
    max_logprobs: int
    system_fingerprint: str
    created: int


class ChatBackend(Protocol):
    """What stands behind the edge: tokenizers and workers, their streams, loss and retry."""

    @property
    def models(self) -> Sequence[ServedModel]:
        """Models that can be asked for; empty while nothing is connected."""

    @property
    def is_ready(self) -> bool:
        """At least one worker and one tokenizer of one model take requests now."""

    async def render(
        self,
        request: PromptRequest,
        *,
        timeout_seconds: float,
        trace: TraceContext = NO_TRACE,
        request_id: str = "",
    ) -> RenderedPrompt:
        """Render a conversation, as part of the request and the span that are named.

        Raises ServiceError (context_length_exceeded, invalid_request, no_worker_available, …).
        """

    def generate(
        self, prompt: RenderedPrompt, options: GenerationOptions, consumer: AnswerConsumer
    ) -> Generation:
        """Start generating; returns at once, the consumer hears the rest.

        Raises ServiceError when nothing could be started (no worker, too large, unsupported).
        """

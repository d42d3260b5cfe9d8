"""The span of asking a model, as the GenAI conventions have it: what client and edge say alike."""

from collections.abc import Mapping
from types import TracebackType
from typing import Self

from headrace.client.answers import AnswerTimeline, AnswerUsage, Generation, GenerationOptions
from headrace.client.chat_answer import ChatAnswer
from headrace.client.span_ends import service_error_of
from headrace.telemetry import names
from headrace.telemetry.clock import SpanClock
from headrace.telemetry.spans import Attributes, AttributeValue, Span, SpanKind, Tracing
from headrace.telemetry.trace_context import TraceContext

_PROVIDER = "headrace"
MAX_STOP_CHARACTERS = 128
"""Of each stop sequence that a span shows."""


def given(values: Mapping[str, AttributeValue | None]) -> Attributes:
    """The attributes that have a value."""
    return {name: value for name, value in values.items() if value is not None}


def answer_attributes(model: str, usage: AnswerUsage, timeline: AnswerTimeline) -> Attributes:
    """What became of a request for `model`: tokens, as far as it came, and the first text's way."""
    found: dict[str, AttributeValue | None] = {
        names.FIRST_TEXT_SECONDS: seconds_between(timeline.started, timeline.first_text)
    }
    if timeline.attempts:
        found[names.RESPONSE_MODEL] = model
        found[names.USAGE_INPUT_TOKENS] = usage.prompt_tokens
        found[names.USAGE_OUTPUT_TOKENS] = sum(usage.completion_tokens)
        found[names.USAGE_REASONING_TOKENS] = sum(usage.reasoning_tokens) or None
    if timeline.started is not None:
        found[names.USAGE_CACHED_TOKENS] = usage.cached_prompt_tokens
    return given(found)


def tell_first_text(span: Span, clock: SpanClock, timeline: AnswerTimeline) -> None:
    """The event of the first text, at its time, if there was one."""
    if timeline.first_text is not None:
        span.event(names.FIRST_TOKEN_EVENT, at_ns=clock.epoch_ns(timeline.first_text))


def seconds_between(began: float | None, ended: float | None) -> float | None:
    """None where one of them has not come."""
    return None if began is None or ended is None else max(0.0, ended - began)


class ModelSpan:
    """The span of one request of the client library's own; a context manager, which ends it."""

    def __init__(self, tracing: Tracing, model: str, options: GenerationOptions) -> None:
        """It begins now, below the options' trace."""
        self._tracing = tracing
        self._model = model
        self._is_answered = False
        name = f"{names.CHAT_OPERATION} {model}"
        self._span = tracing.begin(name, SpanKind.CLIENT, options.trace)
        if self._span.is_recording:
            self._span.set(_request_attributes(model, options))

    @property
    def context(self) -> TraceContext:
        """What the services' spans belong to."""
        return self._span.context

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # What is raised while the answer is read is the reader's, unless the answer failed too.
        if error is not None and not self._is_answered:
            self._span.fail(service_error_of(error).label)
        self._span.end()

    def answered(self, generation: Generation, answer: ChatAnswer) -> None:
        """What came of it; it failed where the answer did, or was left before its end."""
        self._is_answered = True
        span, timeline = self._span, generation.timeline
        if not span.is_recording:
            return
        tell_first_text(span, self._tracing.clock, timeline)
        span.set(answer_attributes(self._model, generation.usage, timeline))
        if answer.finish_reason is not None:
            span.set({names.RESPONSE_FINISH_REASONS: [answer.finish_reason]})
        if answer.failure is not None:
            span.fail(answer.failure.label)


_SAMPLING = {
    names.REQUEST_SEED: "seed",
    names.REQUEST_TOP_K: "top_k",
    names.REQUEST_TOP_P: "top_p",
    names.REQUEST_TEMPERATURE: "temperature",
    names.REQUEST_FREQUENCY_PENALTY: "frequency_penalty",
    names.REQUEST_PRESENCE_PENALTY: "presence_penalty",
}


def _request_attributes(model: str, options: GenerationOptions) -> Attributes:
    asked = {field.name: value for field, value in options.sampling.ListFields()}
    stop = [text[:MAX_STOP_CHARACTERS] for text in options.stop_strings]
    return given(
        {
            names.OPERATION: names.CHAT_OPERATION,
            names.PROVIDER: _PROVIDER,
            names.OUTPUT_TYPE: "text",
            names.REQUEST_ID: options.request_id,
            names.REQUEST_MODEL: model,
            names.REQUEST_STREAM: True,
            names.REQUEST_MAX_TOKENS: options.max_tokens,
            names.REQUEST_STOP_SEQUENCES: stop or None,
            **{name: asked.get(field) for name, field in _SAMPLING.items()},
        }
    )

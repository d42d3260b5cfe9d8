"""The span of asking a model, `chat {model}`: from the body to the end of the answer.

Names and values follow the GenAI conventions; what they say of the answer is what the client saw.
Prompts and answers are not among them, unless the operator says so.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from edge.intake import Intake
from edge.message_capture import input_messages, tool_definitions
from edge.openai.chat_request import ChatRequest
from edge.request_scope import RequestScope
from headrace.client.model_span import (
    MAX_STOP_CHARACTERS,
    answer_attributes,
    given,
    seconds_between,
    tell_first_text,
)
from headrace.telemetry import names
from headrace.telemetry.settings import TracingSettings
from headrace.telemetry.spans import Attributes, AttributeValue, Span, SpanKind, Tracing

_JSON_GUIDES = frozenset(("json_schema", "json_object"))


class ChatSpans:
    """Begins and ends the span of a chat request; the scope's trace is the span's in between."""

    def __init__(self, tracing: Tracing, settings: TracingSettings) -> None:
        self._tracing = tracing
        self._provider = settings.provider_name
        self._captures = settings.capture_messages

    @contextmanager
    def request(self, scope: RequestScope, intake: Intake, began: float) -> Iterator[Span]:
        """A request that is understood; `began`, when its body was there, on the monotonic clock.

        What it ends with is for the caller to tell, by `fail`.
        """
        span = self._tracing.begin(
            f"{names.CHAT_OPERATION} {intake.model.name}",
            SpanKind.CLIENT,
            scope.trace,
            at_ns=self._tracing.clock.epoch_ns(began),
        )
        scope.trace = span.context
        if span.is_recording:
            span.set(self._request_attributes(scope, intake))
            if self._captures:
                scope.answer.is_captured = True
                span.set(_asked(intake.chat))
        try:
            yield span
        finally:
            if span.is_recording:
                self._tell_answer(span, scope, intake)
            span.end()

    def _request_attributes(self, scope: RequestScope, intake: Intake) -> Attributes:
        chat = intake.chat
        found: dict[str, AttributeValue | None] = {
            names.OPERATION: names.CHAT_OPERATION,
            names.PROVIDER: self._provider,
            names.REQUEST_ID: scope.request_id,
            names.TENANT: scope.caller.tenant or None,
            names.PROFILE: scope.profile,
            names.REQUEST_MODEL: intake.model.name,
            names.REQUEST_STREAM: chat.stream,
            names.REQUEST_CHOICES: chat.n if chat.n != 1 else None,
            names.OUTPUT_TYPE: _output_type(chat),
            names.REQUEST_SEED: chat.seed,
            names.REQUEST_TOP_K: chat.top_k,
            names.REQUEST_TOP_P: _decimal(chat.top_p),
            names.REQUEST_TEMPERATURE: _decimal(chat.temperature),
            names.REQUEST_MAX_TOKENS: chat.max_tokens,
            names.REQUEST_FREQUENCY_PENALTY: _decimal(chat.frequency_penalty),
            names.REQUEST_PRESENCE_PENALTY: _decimal(chat.presence_penalty),
            names.REQUEST_STOP_SEQUENCES: [text[:MAX_STOP_CHARACTERS] for text in chat.stop or ()]
            or None,
            names.REQUEST_REASONING_LEVEL: "none" if chat.thinking is False else None,
            names.CLAMPED_FIELDS: [name for name, _ in chat.clamped] or None,
        }
        return given(found)

    def _tell_answer(self, span: Span, scope: RequestScope, intake: Intake) -> None:
        report = scope.answer
        timeline = report.timeline
        tell_first_text(span, self._tracing.clock, timeline)
        found: dict[str, AttributeValue | None] = {
            names.ADMISSION_SECONDS: report.admission_seconds,
            names.RESPONSE_ID: report.completion_id or None,
            names.RESPONSE_FINISH_REASONS: list(report.finish_reasons) or None,
            **answer_attributes(intake.model.name, report.usage, timeline),
        }
        if len(report.finish_reasons) == (intake.chat.n or 1):
            found[names.FLUSH_SECONDS] = seconds_between(timeline.worker_ended, timeline.ended)
        if intake.chat.stream:
            seconds = report.first_text_seconds(scope.began)
            found[names.RESPONSE_TIME_TO_FIRST_CHUNK] = seconds
        if report.capture is not None:
            found[names.OUTPUT_MESSAGES] = report.capture.output_messages()
        span.set(given(found))


def _asked(chat: ChatRequest) -> Attributes:
    """The prompt, and what may be called."""
    tools = tool_definitions(chat.tools) if chat.tools else None
    return given({names.INPUT_MESSAGES: input_messages(chat), names.TOOL_DEFINITIONS: tools})


def _decimal(value: float | None) -> float | None:
    """Conventions have a double here, also of what a client gave as an integer."""
    return None if value is None else float(value)


def _output_type(chat: ChatRequest) -> str:
    guide = chat.content_guide
    return "json" if guide is not None and guide.kind in _JSON_GUIDES else "text"

"""POST /v1/chat/completions: from the body to the last byte of the answer.

Order: body, validation, model, permit, render, generate. The permit and the generation end with the
handler, however it ends; aiohttp cancels it when the client leaves.
"""

import asyncio
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

from aiohttp import web

from edge.admission import Admission
from edge.authentication import own_key_refused
from edge.body import read_body
from edge.body_budget import BodyBudget, BodyShare
from edge.chat_spans import ChatSpans
from edge.client_loss import client_loss
from edge.collector import AnswerCollector
from edge.generation_options import generation_options
from edge.intake import Intake, IntakeDesk
from edge.metrics import EdgeMetrics
from edge.openai.answer import AnswerIdentity, ChunkEncoder, build_completion
from edge.openai.backend_errors import as_client_sees
from edge.openai.call_tally import CallTally
from edge.openai.chat_request import ChatRequest
from edge.openai.ids import mint_completion_id
from edge.openai.model_fit import check_guide
from edge.rate_limits import request_quota
from edge.replies import json_reply
from edge.request_scope import RequestScope, scope_of
from edge.service_state import ServiceState
from edge.settings import EdgeSettings
from edge.sse import SseWriter
from edge.told_headers import told_headers
from headrace.client.answers import (
    ChatBackend,
    Generation,
    GenerationOptions,
    RenderedPrompt,
)
from headrace.client.span_ends import service_error_of
from headrace.common.v1 import errors_pb2
from headrace.rpc.errors import ServiceError
from headrace.telemetry.service import Telemetry


class ChatHandler:
    """Answers chat completion requests from a backend."""

    def __init__(
        self,
        backend: ChatBackend,
        settings: EdgeSettings,
        admission: Admission,
        telemetry: Telemetry[EdgeMetrics],
        state: ServiceState,
    ) -> None:
        self._backend = backend
        self._desk = IntakeDesk(backend, settings)
        self._settings = settings
        self._admission = admission
        self._metrics = telemetry.metrics
        self._spans = ChatSpans(telemetry.tracing, settings.telemetry.tracing)
        self._state = state
        self._bodies = BodyBudget(
            settings.admission.max_body_bytes_in_flight, settings.admission.retry_after_seconds
        )

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Answer one request. Raises ServiceError for whatever prevents an answer."""
        if self._state.is_draining:
            raise _draining()
        scope = scope_of(request)
        limit = scope.limit = asyncio.timeout(None)
        try:
            with self._bodies.share(scope.caller.tenant) as share:
                async with limit:
                    return await self._handle_within(limit, request, scope, share)
        except TimeoutError:
            if not limit.expired():
                raise
            raise self._out_of_time() from None
        finally:
            scope.limit = None

    def _out_of_time(self) -> ServiceError:
        """What ends a request whose time has run out."""
        if self._state.is_cut:
            return _draining()
        return ServiceError(
            errors_pb2.ERROR_REASON_DEADLINE_EXCEEDED,
            "The request took longer than "
            f"{self._settings.backend.request_timeout_seconds:g} seconds.",
        )

    def _truth(self, error: BaseException, request: web.Request) -> ServiceError:
        """What an exception stands for; a cancellation may be the time limit's own."""
        limit = scope_of(request).limit
        if limit is not None and limit.expired():
            return self._out_of_time()
        truth = service_error_of(error)
        is_gone = truth.reason == errors_pb2.ERROR_REASON_CLIENT_CANCELLED
        return client_loss(request) if is_gone else truth

    async def _handle_within(
        self,
        limit: asyncio.Timeout,
        request: web.Request,
        scope: RequestScope,
        share: BodyShare,
    ) -> web.StreamResponse:
        """Everything that the end of the grace may cut; the deadline counts from the body on."""
        body = await read_body(request, self._settings.server, share)
        began = time.monotonic()
        intake = self._desk.take(request, scope, body)
        del body
        with self._spans.request(scope, intake, began) as span:
            try:
                response = await self._serve(limit, _Taken(request, scope, intake), share)
            except BaseException as error:
                span.fail(self._truth(error, request).label)
                raise
            if scope.failure is not None:
                span.fail(scope.failure.label)
            return response

    async def _serve(
        self, limit: asyncio.Timeout, taken: "_Taken", share: BodyShare
    ) -> web.StreamResponse:
        if self._state.is_cut:
            raise _draining()
        scope, intake = taken.scope, taken.intake
        deadline = asyncio.get_running_loop().time() + (
            self._settings.backend.request_timeout_seconds
        )
        limit.reschedule(deadline)
        unbounded_tokens = self._settings.keys.unbounded_answer_tokens
        with request_quota(scope, intake.chat.model, unbounded_tokens) as quota:
            asked_at = time.monotonic()
            async with self._admission.permit():
                scope.answer.admission_seconds = time.monotonic() - asked_at
                with _seen_by(intake.chat):
                    prompt = await self._render(scope, intake, deadline)
                share.give_back()
                check_guide(prompt.guide, intake.model, intake.chat)
                options = generation_options(intake.chat, scope, intake.model, deadline)
                quota.reserve(len(prompt.token_ids), options, intake.model)
                job = _Job(taken.request, scope, intake, prompt, options)
                with _seen_by(intake.chat):
                    return await (self._stream(job) if intake.chat.stream else self._answer(job))

    async def _render(self, scope: RequestScope, intake: Intake, deadline: float) -> RenderedPrompt:
        remaining = deadline - asyncio.get_running_loop().time()
        began = time.monotonic()
        try:
            with own_key_refused():
                return await self._backend.render(
                    intake.prompt_request(),
                    timeout_seconds=min(self._settings.backend.render_timeout_seconds, remaining),
                    trace=scope.trace,
                    request_id=scope.request_id,
                )
        finally:
            scope.answer.render_seconds = time.monotonic() - began

    async def _stream(self, job: "_Job") -> web.StreamResponse:
        intake = job.intake
        encoder = ChunkEncoder(
            job.identity(),
            intake.profile,
            include_usage=intake.chat.include_usage,
            shape=intake.chat.shape,
        )
        seen = partial(as_client_sees, chat=intake.chat)
        writer = SseWriter(job.request, encoder, job.options.n, seen)
        job.scope.stream = writer
        consumer = job.scope.answer.seen_by(writer, job.options.n)
        generation = self._backend.generate(job.prompt, job.options, consumer)
        try:
            return await writer.serve(told_headers(intake.chat))
        finally:
            self._settle(job, writer, generation, sys.exception())
            job.scope.failure = writer.failure
            job.scope.answer.stalls = writer.num_stalls

    async def _answer(self, job: "_Job") -> web.StreamResponse:
        chat = job.intake.chat
        has_logprobs = job.options.logprobs is not None
        collector = AnswerCollector(job.options.n, chat.shape, has_logprobs=has_logprobs)
        consumer = job.scope.answer.seen_by(collector, job.options.n)
        generation = self._backend.generate(job.prompt, job.options, consumer)
        try:
            outputs = await collector.outputs()
        finally:
            self._settle(job, collector, generation, sys.exception())
        body = build_completion(
            job.identity(), outputs, collector.usage, job.intake.profile, chat.shape
        )
        return json_reply(body, headers=told_headers(chat))

    def _settle(
        self,
        job: "_Job",
        consumer: SseWriter | AnswerCollector,
        generation: Generation,
        error: BaseException | None,
    ) -> None:
        """End the generation if it still runs, because of `error`, and keep the counts."""
        if not consumer.is_ended:
            self._metrics.aborted.inc()
            generation.abort(None if error is None else self._truth(error, job.request))
        scope = job.scope
        report = scope.answer
        report.timeline, report.usage = generation.timeline, generation.usage
        report.finish_reasons = consumer.finish_reasons
        scope.prompt_tokens = generation.usage.prompt_tokens
        scope.cached_prompt_tokens = generation.usage.cached_prompt_tokens
        scope.completion_tokens = sum(generation.usage.completion_tokens)
        scope.labels = {**scope.labels, **_answer_labels(generation, consumer.tallies)}


@dataclass(frozen=True, slots=True)
class _Taken:
    """A request that is understood."""

    request: web.Request
    scope: RequestScope
    intake: Intake


@dataclass(frozen=True, slots=True)
class _Job(_Taken):
    """An admitted request with its rendered prompt."""

    prompt: RenderedPrompt
    options: GenerationOptions

    def identity(self) -> AnswerIdentity:
        """A new completion's identity, which the scope learns."""
        self.scope.answer.completion_id = mint_completion_id()
        return AnswerIdentity(
            completion_id=self.scope.answer.completion_id,
            model=self.intake.shown_model,
            created=int(time.time()),
            system_fingerprint=self.intake.model.system_fingerprint,
        )


@contextmanager
def _seen_by(chat: ChatRequest) -> Iterator[None]:
    """What the backend refuses names the client's own fields."""
    try:
        yield
    except ServiceError as error:
        seen = as_client_sees(error, chat)
        if seen is error:
            raise
        raise seen from error


def _answer_labels(generation: Generation, tallies: Sequence[CallTally]) -> dict[str, int]:
    """What the log line tells of calls and thoughts; dropped calls are those no client heard of."""
    counts = {
        "reasoning_tokens": sum(generation.usage.reasoning_tokens),
        "num_calls": sum(tally.num_begun for tally in tallies),
        "num_calls_dropped": sum(tally.num_dropped for tally in tallies),
    }
    return {name: count for name, count in counts.items() if count}


def _draining() -> ServiceError:
    return ServiceError(
        errors_pb2.ERROR_REASON_DRAINING, "The server is shutting down. Please try again."
    )

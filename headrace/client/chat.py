"""The typed client for internal callers: from messages to text over gRPC alone.

async with HeadraceClient(["127.0.0.1:50061"], ["127.0.0.1:50052"]) as client:
    async with client.chat([ChatMessage("user", "Hello")], max_tokens=32) as answer:
        async for text in answer:
            print(text, end="")
"""

import asyncio
import logging
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from types import TracebackType
from typing import Self
from uuid import uuid4

import structlog

from headrace.client.answer_events import EventWriter, LogprobsWriter, TokenLogprob
from headrace.client.answers import (
    AnswerTimes,
    AnswerUsage,
    Finish,
    GenerationOptions,
    OutputResult,
)
from headrace.client.backend import GrpcChatBackend
from headrace.client.prompt_request import ChatMessage, PromptRequest
from headrace.common.v1 import errors_pb2
from headrace.rpc.bearer import OwnKey
from headrace.rpc.credentials import PeerCredentials
from headrace.rpc.errors import ServiceError
from headrace.runtime.tls_settings import ClientTlsSettings
from headrace.worker.v1.generation_pb2 import SamplingParams


class ChatAnswer:
    """One answer: iterate for its text deltas; afterwards `finish_reason` and `usage` are set.

    Iterating raises ServiceError when the generation fails. Deltas that come while nobody reads are
    joined; the answer's length bounds them.
    """

    def __init__(self) -> None:
        self._waiting: list[str] = []
        self._waiting_logprobs: list[TokenLogprob] = []
        self._changed = asyncio.Event()
        self._is_done = False
        self._error: ServiceError | None = None
        self.has_delivered = False
        self.finish_reason: Finish | None = None
        self.stop_string: str | None = None
        self.logprobs: list[TokenLogprob] = []
        """Of the tokens that spell the text taken so far, if they were asked for."""
        self.usage = AnswerUsage()

    async def __aiter__(self) -> AsyncIterator[str]:
        while True:
            if self._waiting:
                text, self._waiting = "".join(self._waiting), []
                self.logprobs += self._waiting_logprobs
                self._waiting_logprobs = []
                self.has_delivered = True
                yield text
            elif self._error is not None:
                raise self._error
            elif self._is_done:
                return
            else:
                self._changed.clear()
                await self._changed.wait()

    async def text(self) -> str:
        """The whole answer."""
        return "".join([part async for part in self])

    def on_started(self, times: AnswerTimes) -> None:
        """Part of AnswerConsumer; the usage says it all."""

    def text_writer(self, index: int) -> Callable[[str], None]:
        """Part of AnswerConsumer."""
        del index  # one output
        self._waiting.clear()
        return self._on_text

    def _on_text(self, text: str) -> None:
        self._waiting.append(text)
        self._changed.set()

    def logprobs_writer(self, index: int) -> LogprobsWriter:
        """Part of AnswerConsumer."""
        self._waiting_logprobs.clear()
        write_text = self.text_writer(index)

        def write(text: str, entries: Sequence[TokenLogprob]) -> None:
            self._waiting_logprobs += entries
            write_text(text)

        return write

    def event_writer(self, index: int) -> EventWriter:
        """Part of AnswerConsumer; no answer comes as events yet."""
        raise NotImplementedError

    def on_finish(self, index: int, result: OutputResult) -> None:
        """Part of AnswerConsumer."""
        del index  # one output
        self.finish_reason = result.finish_reason
        self.stop_string = result.stop_string

    def on_done(self) -> None:
        """Part of AnswerConsumer."""
        self._is_done = True
        self._changed.set()

    def on_error(self, error: ServiceError) -> None:
        """Part of AnswerConsumer."""
        self._error = error
        self._changed.set()

    def leave(self) -> None:
        """The context was left: whoever still reads an unfinished answer is told so."""
        if not self._is_done and self._error is None:
            cancelled = errors_pb2.ERROR_REASON_CLIENT_CANCELLED
            self.on_error(ServiceError(cancelled, "the answer was left before its end"))


def _keep_stdout_clean() -> None:
    """Log warnings to stderr where the program has chosen nothing: structlog prints to stdout."""
    if not structlog.is_configured():
        structlog.configure(
            wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING),
            logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        )


class HeadraceClient:
    """Talks to workers and tokenizers; addresses are host:port. Use it as a context manager.

    Raises StartError for TLS files that cannot be used.
    """

    def __init__(
        self,
        worker_addresses: Sequence[str],
        tokenizer_addresses: Sequence[str],
        *,
        connect_timeout_seconds: float = 10.0,
        tls: ClientTlsSettings | None = None,
        api_key: str | None = None,
    ) -> None:
        """`api_key` is shown to workers and tokenizers that demand one."""
        credentials = PeerCredentials(tls, OwnKey(api_key))
        self._backend = GrpcChatBackend(
            worker_addresses, tokenizer_addresses, credentials=credentials
        )
        self._connect_timeout_seconds = connect_timeout_seconds

    async def __aenter__(self) -> Self:
        _keep_stdout_clean()
        await self._backend.start()
        try:
            await self._connect()
        except BaseException:
            await self._backend.stop()
            raise
        return self

    async def _connect(self) -> None:
        try:
            async with asyncio.timeout(self._connect_timeout_seconds):
                await self._backend.ready()
        except TimeoutError:
            raise ServiceError(
                errors_pb2.ERROR_REASON_NO_WORKER_AVAILABLE,
                f"no worker with its tokenizer answered within {self._connect_timeout_seconds:g} s",
            ) from None

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._backend.stop()

    @property
    def models(self) -> list[str]:
        """Names of the models that can be asked for."""
        return [model.name for model in self._backend.models]

    def chat(  # noqa: PLR0913 (all but the messages are options, given by name)
        self,
        messages: Sequence[ChatMessage],
        *,
        model: str | None = None,
        max_tokens: int | None = None,
        sampling: SamplingParams | None = None,
        stop: Sequence[str] = (),
        logprobs: int | None = None,
        timeout_seconds: float = 600.0,
    ) -> AbstractAsyncContextManager[ChatAnswer]:
        """Ask for one answer; `model` None is the first one. Leaving the context aborts it.

        `logprobs`: log probabilities of the tokens, with so many alternatives each; None = none.
        Entering raises ServiceError when it cannot be rendered or nothing can take it.
        """
        options = GenerationOptions(
            request_id=f"req-{uuid4().hex}",
            sampling=sampling or SamplingParams(),
            max_tokens=max_tokens,
            stop_strings=tuple(stop),
            logprobs=logprobs,
            deadline=asyncio.get_running_loop().time() + timeout_seconds,
        )
        return self._chat(model or self.models[0], messages, options, timeout_seconds)

    @asynccontextmanager
    async def _chat(
        self,
        model: str,
        messages: Sequence[ChatMessage],
        options: GenerationOptions,
        timeout_seconds: float,
    ) -> AsyncIterator[ChatAnswer]:
        request = PromptRequest(model, tuple(messages))
        prompt = await self._backend.render(request, timeout_seconds=timeout_seconds)
        answer = ChatAnswer()
        generation = self._backend.generate(prompt, options, answer)
        answer.usage = generation.usage
        try:
            yield answer
        finally:
            generation.abort()
            answer.leave()

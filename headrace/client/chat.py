"""The typed client for internal callers: from messages to text over gRPC alone.

async with HeadraceClient(["127.0.0.1:50061"], ["127.0.0.1:50052"]) as client:
    async with client.chat([ChatMessage("user", "Hello")], max_tokens=32) as answer:
        async for text in answer:
            print(text, end="")

Answers that think or call functions: `ChatAnswer.reasoning` and `.tool_calls`.
"""

import asyncio
import logging
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from types import TracebackType
from typing import Self
from uuid import uuid4

import structlog

from headrace.client.answers import GenerationOptions
from headrace.client.backend import GrpcChatBackend
from headrace.client.chat_answer import ChatAnswer
from headrace.client.model_span import ModelSpan
from headrace.client.prompt_request import (
    ChatMessage,
    ContentGuide,
    Function,
    PromptRequest,
    ToolChoice,
)
from headrace.client.resolver import NameLookup
from headrace.common.v1 import errors_pb2
from headrace.rpc.bearer import OwnKey
from headrace.rpc.credentials import PeerCredentials
from headrace.rpc.errors import ServiceError
from headrace.runtime.tls_settings import ClientTlsSettings
from headrace.telemetry.spans import NoTracing, Tracing
from headrace.telemetry.trace_context import NO_TRACE, TraceContext
from headrace.worker.v1.generation_pb2 import SamplingParams


def _keep_stdout_clean() -> None:
    """Log warnings to stderr where the program has chosen nothing: structlog prints to stdout."""
    if not structlog.is_configured():
        structlog.configure(
            wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING),
            logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        )


class HeadraceClient:
    """Talks to workers and tokenizers; addresses are host:port. Use it as a context manager.

    A host that is a name stands for all its addresses, each a peer, as they come and go.

    Raises StartError for TLS files that cannot be used.
    """

    def __init__(  # noqa: PLR0913 (all but the addresses are options, given by name)
        self,
        worker_addresses: Sequence[str],
        tokenizer_addresses: Sequence[str],
        *,
        connect_timeout_seconds: float = 10.0,
        tls: ClientTlsSettings | None = None,
        api_key: str | None = None,
        tracing: Tracing | None = None,
        lookup: NameLookup | None = None,
    ) -> None:
        """`api_key` is shown to workers and tokenizers that demand one; `tracing` makes spans.

        `lookup` is how names in addresses are followed; None = as the machine does, every 2 s.
        """
        credentials = PeerCredentials(tls, OwnKey(api_key))
        self._tracing = tracing or NoTracing()
        self._backend = GrpcChatBackend(
            worker_addresses,
            tokenizer_addresses,
            credentials=credentials,
            tracing=self._tracing,
            lookup=lookup,
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
        tools: Sequence[Function] = (),
        tool_choice: ToolChoice | None = None,
        content_guide: ContentGuide | None = None,
        thinking: bool | None = None,
        max_tokens: int | None = None,
        sampling: SamplingParams | None = None,
        stop: Sequence[str] = (),
        logprobs: int | None = None,
        timeout_seconds: float = 600.0,
        trace: TraceContext = NO_TRACE,
    ) -> AbstractAsyncContextManager[ChatAnswer]:
        """Ask for one answer; `model` None is the first one. Leaving the context aborts it.

        `tools` are functions that it may call, `tool_choice` None leaves it to the model;
        `content_guide` is what its text must be; `thinking` None is what the model does by itself.
        `logprobs`: log probabilities of the tokens, with so many alternatives each; None = none.
        `trace` is the caller's own span, below which the services put theirs.
        Entering raises ServiceError when it cannot be rendered or nothing can take it.
        """
        options = GenerationOptions(
            request_id=f"req-{uuid4().hex}",
            sampling=sampling or SamplingParams(),
            max_tokens=max_tokens,
            stop_strings=tuple(stop),
            logprobs=logprobs,
            deadline=asyncio.get_running_loop().time() + timeout_seconds,
            trace=trace,
        )
        request = PromptRequest(
            model or self.models[0],
            tuple(messages),
            tuple(tools),
            tool_choice or ToolChoice(),
            content_guide,
            thinking,
        )
        return self._chat(request, options, timeout_seconds)

    @asynccontextmanager
    async def _chat(
        self, request: PromptRequest, options: GenerationOptions, timeout_seconds: float
    ) -> AsyncIterator[ChatAnswer]:
        with ModelSpan(self._tracing, request.model, options) as span:
            options = replace(options, trace=span.context)
            prompt = await self._backend.render(
                request,
                timeout_seconds=timeout_seconds,
                trace=options.trace,
                request_id=options.request_id,
            )
            answer = ChatAnswer()
            generation = self._backend.generate(prompt, options, answer)
            answer.usage = generation.usage
            try:
                yield answer
            finally:
                generation.abort()
                answer.leave()
                span.answered(generation, answer)

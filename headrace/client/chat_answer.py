"""One answer for one reader, who iterates for its text and finds the rest beside it.

A consumer of the backend's; see `headrace.client.chat` for how to ask for one.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from typing import TypeAlias

from headrace.client.answer_events import (
    AnswerEvent,
    CallArguments,
    CallBegin,
    CallEnd,
    ContentDelta,
    EventWriter,
    LogprobsWriter,
    ReasoningDelta,
    TokenLogprob,
)
from headrace.client.answers import AnswerTimes, AnswerUsage, Finish, OutputResult
from headrace.client.call_ids import mint_call_id
from headrace.client.prompt_request import ToolCall
from headrace.common.v1 import errors_pb2
from headrace.rpc.errors import ServiceError

_BesideText: TypeAlias = ReasoningDelta | CallBegin | CallArguments | CallEnd


class ChatAnswer:
    """One answer: iterate for its text deltas; afterwards `finish_reason` and `usage` are set.

    `reasoning` and `tool_calls` grow while it is iterated, also where there is no text at all.
    Iterating raises ServiceError when the generation fails. Deltas that come while nobody reads are
    joined; the answer's length bounds them.
    """

    def __init__(self) -> None:
        self._waiting: list[str] = []
        self._waiting_events: list[_BesideText] = []
        self._waiting_logprobs: list[TokenLogprob] = []
        self._name = ""  # of the call that goes on
        self._arguments: list[str] = []
        self._changed = asyncio.Event()
        self._is_done = False
        self._error: ServiceError | None = None
        self.has_delivered = False
        self.finish_reason: Finish | None = None
        """`stop` also where it ends with calls."""
        self.stop_string: str | None = None
        self.reasoning = ""
        """The thoughts so far."""
        self.tool_calls: list[ToolCall] = []
        """The complete calls so far; their ids are new. One that broke off is not among them."""
        self.logprobs: list[TokenLogprob] = []
        """Of the tokens taken so far, if they were asked for: they spell the text or, where there
        may be thoughts or calls, all of the output with its markup."""
        self.usage = AnswerUsage()

    async def __aiter__(self) -> AsyncIterator[str]:
        while True:
            if self._waiting or self._waiting_events or self._waiting_logprobs:
                self.has_delivered = True
                if text := self._take():
                    yield text
            elif self._error is not None:
                raise self._error
            elif self._is_done:
                return
            else:
                self._changed.clear()
                await self._changed.wait()

    @property
    def failure(self) -> ServiceError | None:
        """What it failed with, or that it was left before its end."""
        return self._error

    async def text(self) -> str:
        """The whole answer's text."""
        return "".join([part async for part in self])

    def _take(self) -> str:
        """Make what waits part of the answer; returns its text."""
        text, self._waiting = "".join(self._waiting), []
        self.logprobs += self._waiting_logprobs
        self._waiting_logprobs = []
        events, self._waiting_events = self._waiting_events, []
        for event in events:
            self._take_event(event)
        return text

    def _take_event(self, event: _BesideText) -> None:
        match event:
            case ReasoningDelta():
                self.reasoning += event.text
            case CallBegin():
                self._name, self._arguments = event.name, []
            case CallArguments():
                self._arguments.append(event.text)
            case CallEnd():
                if event.is_complete:
                    call = ToolCall(mint_call_id(), self._name, "".join(self._arguments))
                    self.tool_calls.append(call)

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
        """Part of AnswerConsumer."""
        del index  # one output
        self._waiting.clear()
        self._waiting_events.clear()
        self._waiting_logprobs.clear()
        return self._on_events

    def _on_events(self, events: Sequence[AnswerEvent], tokens: Sequence[TokenLogprob]) -> None:
        self._waiting_logprobs += tokens
        for event in events:
            if isinstance(event, ContentDelta):
                self._waiting.append(event.text)
            else:
                self._waiting_events.append(event)
        self._changed.set()

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

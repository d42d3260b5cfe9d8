"""The consumer of an answer that goes out as a whole."""

import asyncio
from collections.abc import Callable, Sequence

from edge.openai.answer import FinishedOutput, Usage
from edge.openai.answer_shape import AnswerShape
from edge.openai.call_tally import CallTally
from edge.openai.finish import FinishReason
from edge.openai.logprobs import encode_entries, logprobs_object
from edge.openai.message_parts import MessageParts
from headrace.client.answer_events import AnswerEvent, EventWriter, LogprobsWriter, TokenLogprob
from headrace.client.answers import AnswerTimes, OutputResult
from headrace.rpc.errors import ServiceError


class AnswerCollector:
    """Gathers text or events until all outputs have ended; a new attempt starts afresh."""

    has_delivered = False

    def __init__(
        self, outputs: int, shape: AnswerShape | None = None, *, has_logprobs: bool = False
    ) -> None:
        self._shape = shape or AnswerShape()
        self._has_logprobs = has_logprobs
        self._texts: list[list[str]] = [[] for _ in range(outputs)]
        self._parts: dict[int, MessageParts] = {}  # of the outputs that come as events
        self._logprobs: dict[int, list[bytes]] = {}  # of the outputs whose entries are wanted
        self._results: dict[int, OutputResult] = {}
        self._times = AnswerTimes()
        self._error: ServiceError | None = None
        self._ended = asyncio.Event()

    @property
    def is_ended(self) -> bool:
        """Whether the backend has nothing more to say."""
        return self._ended.is_set()

    @property
    def usage(self) -> Usage:
        """Token counts so far."""
        return Usage(
            self._times.prompt_tokens,
            self._times.cached_prompt_tokens,
            sum(result.completion_tokens for result in self._results.values()),
            sum(result.reasoning_tokens for result in self._results.values()),
        )

    @property
    def tallies(self) -> Sequence[CallTally]:
        """What was called, output by output; empty where the answer comes as text."""
        return [parts.tally for parts in self._parts.values()]

    @property
    def finish_reasons(self) -> Sequence[FinishReason]:
        """Of the outputs that have ended."""
        return [self._reason(index) for index in sorted(self._results)]

    def _reason(self, index: int) -> FinishReason:
        ended, parts = self._results[index].finish_reason, self._parts.get(index)
        return ended if parts is None else parts.tally.finish_reason(ended)

    def on_started(self, times: AnswerTimes) -> None:
        """Begin an attempt."""
        self._times = times
        self._results.clear()
        for texts in self._texts:
            texts.clear()
        for encoded in self._logprobs.values():
            encoded.clear()

    def text_writer(self, index: int) -> Callable[[str], None]:
        """The list's own append."""
        return self._texts[index].append

    def logprobs_writer(self, index: int) -> LogprobsWriter:
        """Encodes the entries as they come: as objects they would take twice the memory."""
        write_text = self.text_writer(index)
        encoded = self._logprobs[index] = []

        def write(text: str, entries: Sequence[TokenLogprob]) -> None:
            write_text(text)
            encoded.append(encode_entries(entries))

        return write

    def event_writer(self, index: int) -> EventWriter:
        """Takes the message's parts; entries as above, where they are wanted."""
        parts = self._parts[index] = MessageParts(self._shape)
        encoded: list[bytes] = []
        if self._has_logprobs:
            self._logprobs[index] = encoded

        def write(events: Sequence[AnswerEvent], entries: Sequence[TokenLogprob]) -> None:
            parts.take(events)
            if entries:
                encoded.append(encode_entries(entries))

        return write

    def on_finish(self, index: int, result: OutputResult) -> None:
        """Keep how an output ended."""
        self._results[index] = result

    def on_done(self) -> None:
        """Wake the waiter."""
        self._ended.set()

    def on_error(self, error: ServiceError) -> None:
        """Wake the waiter with an error."""
        self._error = error
        self._ended.set()

    async def outputs(self) -> list[FinishedOutput]:
        """All outputs once they have ended, in order. Raises the ServiceError that came instead."""
        await self._ended.wait()
        if self._error is not None:
            raise self._error
        return [self._finished(index) for index in range(len(self._texts))]

    def _finished(self, index: int) -> FinishedOutput:
        encoded = self._logprobs.get(index)
        logprobs = None if encoded is None else logprobs_object(encoded)
        ended = self._results[index].finish_reason
        parts = self._parts.get(index)
        if parts is not None:
            return parts.finished(ended, logprobs)
        return FinishedOutput("".join(self._texts[index]), ended, logprobs)

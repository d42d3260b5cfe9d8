"""The consumer of an answer that goes out as a whole."""

import asyncio
from collections.abc import Callable, Sequence

from edge.openai.answer import FinishedOutput, Usage
from edge.openai.logprobs import encode_entries, logprobs_object
from headrace.client.answer_events import EventWriter, LogprobsWriter, TokenLogprob
from headrace.client.answers import AnswerTimes, OutputResult
from headrace.rpc.errors import ServiceError


class AnswerCollector:
    """Gathers text until all outputs have ended; a new attempt starts afresh."""

    has_delivered = False

    def __init__(self, outputs: int) -> None:
        self._texts: list[list[str]] = [[] for _ in range(outputs)]
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
        )

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
        """Part of AnswerConsumer; no answer comes as events yet."""
        raise NotImplementedError

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
        return FinishedOutput(
            "".join(self._texts[index]),
            self._results[index].finish_reason,
            None if encoded is None else logprobs_object(encoded),
        )

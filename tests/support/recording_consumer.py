"""A consumer that remembers everything it hears, in order."""

import asyncio
from collections.abc import Callable, Sequence

from headrace.client.answer_events import (
    AnswerEvent,
    EventWriter,
    LogprobsWriter,
    TokenLogprob,
)
from headrace.client.answers import AnswerTimes, OutputResult
from headrace.rpc.errors import ServiceError


class RecordingConsumer:
    """`delivers` says whether text and events count as delivered to the caller at once.

    `event_calls` holds, for each output, the events that came together.
    """

    def __init__(self, *, delivers: bool = True) -> None:
        self._delivers = delivers
        self.has_delivered = False
        self.heard: list[tuple[object, ...]] = []
        self.texts: dict[int, str] = {}
        self.event_calls: dict[int, list[list[AnswerEvent]]] = {}
        self.logprobs: dict[int, list[TokenLogprob]] = {}
        self.results: dict[int, OutputResult] = {}
        self.errors: list[ServiceError] = []
        self.attempts = 0
        self.ended = asyncio.Event()
        self._changed = asyncio.Event()

    def on_started(self, times: AnswerTimes) -> None:
        self.attempts += 1
        self._note("started", times.cached_prompt_tokens)

    def text_writer(self, index: int) -> Callable[[str], None]:
        self.texts[index] = ""

        def write(text: str) -> None:
            self.texts[index] += text
            self.has_delivered = self.has_delivered or self._delivers
            self._note("text", index, text)

        return write

    def logprobs_writer(self, index: int) -> LogprobsWriter:
        write_text = self.text_writer(index)
        self.logprobs[index] = []

        def write(text: str, entries: Sequence[TokenLogprob]) -> None:
            assert b"".join(entry.token for entry in entries).decode() == text
            self.logprobs[index] += entries
            write_text(text)

        return write

    def event_writer(self, index: int) -> EventWriter:
        self.event_calls[index] = []
        self.logprobs[index] = []

        def write(events: Sequence[AnswerEvent], tokens: Sequence[TokenLogprob]) -> None:
            assert events or tokens
            self.event_calls[index].append(list(events))
            self.logprobs[index] += tokens
            self.has_delivered = self.has_delivered or self._delivers
            self._note("events", index, *events)

        return write

    def events(self, index: int = 0) -> list[AnswerEvent]:
        """All events of an output."""
        return [event for together in self.event_calls[index] for event in together]

    def on_finish(self, index: int, result: OutputResult) -> None:
        self.results[index] = result
        self.has_delivered = self.has_delivered or self._delivers
        self._note("finish", index)

    def on_done(self) -> None:
        self._note("done")
        self.ended.set()

    def on_error(self, error: ServiceError) -> None:
        self.errors.append(error)
        self._note("error", error.label)
        self.ended.set()

    async def hears(self, *kinds: str, times: int = 1) -> None:
        """Return when all these kinds have been heard so often."""
        while min([entry[0] for entry in self.heard].count(kind) for kind in kinds) < times:
            self._changed.clear()
            await self._changed.wait()

    def _note(self, *entry: object) -> None:
        self.heard.append(entry)
        self._changed.set()

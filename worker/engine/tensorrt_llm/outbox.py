"""Gathers what the requests' tasks produce in one turn of the loop: one call for each sink.

The library wakes every request's task of an iteration in the same turn, so a turn is an iteration.
"""

import asyncio
from dataclasses import dataclass, field

from worker.engine.seam import EndedEvent, EngineEvents, EventSink, StartedEvent, TokenLogprob
from worker.engine.tensorrt_llm.cursor import Delta


@dataclass(slots=True)
class SinkBatch:
    """What one sink is told next."""

    started: list[StartedEvent] = field(default_factory=list)
    token_ids: dict[int, list[int]] = field(default_factory=dict)
    logprobs: dict[int, list[TokenLogprob]] = field(default_factory=dict)
    ended: list[EndedEvent] = field(default_factory=list)

    def add_tokens(self, key: int, delta: Delta) -> None:
        """Tokens of one output; several steps of one turn are joined."""
        self.token_ids.setdefault(key, []).extend(delta.token_ids)
        if delta.logprobs:
            self.logprobs.setdefault(key, []).extend(delta.logprobs)

    def events(self) -> EngineEvents:
        """The form of the seam."""
        return EngineEvents(
            started=self.started,
            keys=list(self.token_ids),
            counts=[len(ids) for ids in self.token_ids.values()],
            token_ids=[token_id for ids in self.token_ids.values() for token_id in ids],
            logprobs=self.logprobs,
            ended=self.ended,
        )


class Outbox:
    """The batches of all sinks; flushed once a turn."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._batches: dict[EventSink, SinkBatch] = {}
        self.turn = 0
        """How often it was flushed."""

    def batch(self, sink: EventSink) -> SinkBatch:
        """Where to add what the sink is to be told in this turn."""
        found = self._batches.get(sink)
        if found is None:
            if not self._batches:
                # Behind the tasks that are ready now, which belong to the same iteration.
                self._loop.call_soon(self.flush)
            found = self._batches[sink] = SinkBatch()
        return found

    def flush(self) -> None:
        """Tell every sink now."""
        self.turn += 1
        batches, self._batches = self._batches, {}
        for sink, batch in batches.items():
            sink.on_events(batch.events())

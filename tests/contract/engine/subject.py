"""An engine under test: asks it, and keeps what it answered."""

import itertools
import random
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass

from headrace.worker.v1.generation_pb2 import GenerationRequest
from tests.support.event_sinks import CollectingSink
from worker.engine.seam import (
    EndedEvent,
    Engine,
    EngineEvents,
    EngineRequest,
    SamplingParams,
    StartedEvent,
    TokenLogprob,
)
from worker.request_mapping import engine_request

GREEDY = SamplingParams(temperature=0)


@dataclass(frozen=True)
class Answer:
    """One output; `first_seconds` is the time from submission to its first token."""

    token_ids: list[int]
    started: StartedEvent
    ended: EndedEvent
    first_seconds: float
    logprobs: list[TokenLogprob]


class TimedSink(CollectingSink):
    """Also keeps when each output's first token came, and how often it was called."""

    def __init__(self) -> None:
        super().__init__()
        self.first_seconds: dict[int, float] = {}
        self.calls = 0

    def on_events(self, events: EngineEvents) -> None:
        super().on_events(events)
        self.calls += 1
        for key in self.started.keys() - self.first_seconds.keys():
            self.first_seconds[key] = time.perf_counter()


@dataclass
class Subject:
    """A started engine. `short_prompt`'s greedy answer ends by itself within 24 tokens.

    `has_distribution`: it draws from probabilities, so that options which shape them show.
    `words_refused_guides`: it says itself why it cannot follow one; else a library does.
    `fresh` starts another one with the same model, which the caller ends.
    """

    engine: Engine
    short_prompt: tuple[int, ...]
    has_distribution: bool
    fresh: "Callable[[], AbstractAsyncContextManager[Subject]] | None" = None
    words_refused_guides: bool = True

    def __post_init__(self) -> None:
        self._keys = itertools.count()

    @property
    def has_cache(self) -> bool:
        """It keeps blocks of prompts."""
        return self.engine.load.total_blocks > 0

    def prompt(self, length: int, seed: int = 0) -> tuple[int, ...]:
        """Ids of any text, without end tokens."""
        info = self.engine.info
        known = [i for i in range(100, info.vocabulary_size) if i not in info.end_token_ids]
        return tuple(random.Random(seed).choices(known, k=length))

    def encode(self, text: str) -> list[int]:
        """Ids of a text, for engines that take guides."""
        raise NotImplementedError

    def decode(self, token_ids: Sequence[int]) -> str:
        """Text of ids without special tokens, for engines that take guides."""
        raise NotImplementedError

    def chat(self, question: str) -> list[int]:
        """Ids of a conversation with one question, for engines that take guides."""
        raise NotImplementedError

    def request(self, prompt: Sequence[int] | None = None, **fields: object) -> EngineRequest:
        """A greedy request of at most 24 tokens, unless told otherwise."""
        values = {"max_tokens": 24, "sampling": GREEDY, **fields}
        key = next(self._keys)
        for _ in range(1, values.get("n", 1)):
            next(self._keys)
        ids = self.short_prompt if prompt is None else tuple(prompt)
        return EngineRequest(f"request-{key}", key, ids, **values)

    def mapped(self, wire: GenerationRequest) -> EngineRequest:
        """The request that the worker would submit; raises what it would refuse with."""
        key = next(self._keys)
        for _ in range(1, wire.n):
            next(self._keys)
        return engine_request(wire, key, self.engine.info)

    async def generate(self, prompt: Sequence[int] | None = None, **fields: object) -> Answer:
        """One output, from submission to its end."""
        return (await self.generate_all([self.request(prompt, **fields)]))[0]

    async def outputs(self, request: EngineRequest) -> list[Answer]:
        """All outputs of one request."""
        return await self.generate_all([request])

    async def generate_all(self, requests: Sequence[EngineRequest]) -> list[Answer]:
        """All outputs of requests that are submitted at the same moment."""
        sink = TimedSink()
        begin = time.perf_counter()
        for request in requests:
            self.engine.submit(request, sink)
        keys = [key for request in requests for key in request.keys]
        await sink.all_ended(*keys)
        assert sink.violations == []
        return [
            Answer(
                sink.token_ids[key],
                sink.started[key],
                sink.ended[key],
                sink.first_seconds[key] - begin,
                sink.logprobs.get(key, []),
            )
            for key in keys
        ]

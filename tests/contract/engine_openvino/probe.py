"""Generates with a started engine and reads what the model was fed."""

import itertools
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from tokenizers import Tokenizer

from headrace.models.directory import ModelDirectory
from tests.support.event_sinks import CollectingSink
from worker.engine.openvino.engine import OpenVinoEngine
from worker.engine.openvino.model import LoadedModel, load_model
from worker.engine.openvino.settings import OpenVinoSettings
from worker.engine.seam import EndedEvent, EngineRequest, SamplingParams, StartedEvent, TokenLogprob

KV_CACHE_BYTES = 140 << 20
"""Pool of the shared engine, about 3,000 tokens: enough for every test on a small machine."""

GREEDY = SamplingParams(temperature=0)


@dataclass(frozen=True)
class Answer:
    """One output; `first_seconds` is the time from submission to its first token."""

    token_ids: list[int]
    started: StartedEvent
    ended: EndedEvent
    first_seconds: float
    logprobs: list[TokenLogprob]


class Probe:
    """A started engine, its parts and its tokenizer."""

    def __init__(self, engine: OpenVinoEngine, loaded: LoadedModel, tokenizer: Tokenizer) -> None:
        self.engine = engine
        self.loaded = loaded
        self._tokenizer = tokenizer
        self._keys = itertools.count()

    @property
    def tokens_fed(self) -> int:
        """Tokens that went into the model since the start."""
        return self.loaded.runner.tokens_fed

    def encode(self, text: str) -> list[int]:
        """Ids of a text."""
        return self._tokenizer.encode(text).ids

    def decode(self, token_ids: Sequence[int]) -> str:
        """Text of ids, without special tokens."""
        return self._tokenizer.decode(list(token_ids))

    def chat(self, question: str) -> list[int]:
        """Ids of a conversation with one question."""
        return self.encode(f"<|im_start|>user\n{question}<|im_end|>\n<|im_start|>assistant\n")

    def request(self, prompt: Sequence[int], **fields: object) -> EngineRequest:
        """A greedy request of at most 24 tokens, unless told otherwise."""
        values = {"max_tokens": 24, "sampling": GREEDY, **fields}
        key = next(self._keys)
        for _ in range(1, values.get("n", 1)):
            next(self._keys)
        return EngineRequest(f"request-{key}", key, tuple(prompt), **values)

    async def generate(self, prompt: Sequence[int], **fields: object) -> Answer:
        """One output, from submission to its end."""
        return (await self.generate_all([self.request(prompt, **fields)]))[0]

    async def generate_all(self, requests: Sequence[EngineRequest]) -> list[Answer]:
        """All outputs of requests that are submitted at the same moment."""
        sink = _TimedSink()
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

    async def outputs(self, request: EngineRequest) -> list[Answer]:
        """All outputs of one request."""
        return await self.generate_all([request])


class _TimedSink(CollectingSink):
    def __init__(self) -> None:
        super().__init__()
        self.first_seconds: dict[int, float] = {}

    def on_events(self, events: object) -> None:
        super().on_events(events)
        for key in self.started.keys() - self.first_seconds.keys():
            self.first_seconds[key] = time.perf_counter()


@asynccontextmanager
async def opened(directory: ModelDirectory, **settings: object) -> AsyncIterator[Probe]:
    """A started engine in reproducible numerics, unless told otherwise; stopped at the end."""
    kept: list[LoadedModel] = []

    def load(model: ModelDirectory, values: OpenVinoSettings) -> LoadedModel:
        kept.append(load_model(model, values))
        return kept[0]

    values = OpenVinoSettings(**{"numerics": "reproducible", **settings})
    engine = OpenVinoEngine(directory, values, loader=load)
    await engine.start()
    try:
        tokenizer = Tokenizer.from_file(str(directory.path / "tokenizer.json"))
        yield Probe(engine, kept[0], tokenizer)
    finally:
        await engine.stop()

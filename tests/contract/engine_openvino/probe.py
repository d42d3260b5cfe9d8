"""A started openvino engine, its parts and its tokenizer."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from tokenizers import Tokenizer

from headrace.models.directory import ModelDirectory
from tests.contract.engine.subject import Subject
from worker.engine.openvino.engine import OpenVinoEngine
from worker.engine.openvino.model import LoadedModel, load_model
from worker.engine.openvino.settings import OpenVinoSettings

KV_CACHE_BYTES = 140 << 20
"""Pool of the shared engine, about 3,000 tokens: enough for every test on a small machine."""


class Probe(Subject):
    """Reads what the model was fed, and writes and reads text."""

    def __init__(self, engine: OpenVinoEngine, loaded: LoadedModel, tokenizer: Tokenizer) -> None:
        self.loaded = loaded
        self._tokenizer = tokenizer
        question = tuple(self.chat("What is the capital of France?"))
        super().__init__(engine, question, has_distribution=True)

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

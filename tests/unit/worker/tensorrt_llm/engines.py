"""Started tensorrt_llm engines on doubles of the library, each behaving as a test wants it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

from tests.support.event_sinks import CollectingSink
from tests.support.models import fake_model
from tests.support.tensorrt_llm import importable
from worker.engine.seam import EndedEvent, EngineRequest, SamplingParams, TokenLogprob
from worker.engine.tensorrt_llm.engine import TensorRtLlmEngine
from worker.engine.tensorrt_llm.library import open_library
from worker.engine.tensorrt_llm.settings import TensorRtLlmSettings

with importable():
    from tensorrt_llm.double.machine import Machine, using
    from tensorrt_llm.double.switches import Fault, ModelFacts, Switches

__all__ = ["GREEDY", "PROMPT", "Fault", "Opened", "opened"]

GREEDY = SamplingParams(temperature=0)
PROMPT = (100, 12, 13, 14, 15)
END_IDS = (2, 7)
"""The second stands in the model's configuration only."""


@dataclass
class Said:
    """What an engine said of one output."""

    token_ids: list[int]
    logprobs: list[TokenLogprob]
    ended: EndedEvent


@dataclass
class Opened:
    """A started engine and the machine that it runs on."""

    engine: TensorRtLlmEngine
    machine: Machine
    exit_codes: list[int]

    def submit(
        self, sink: CollectingSink, key: int = 0, prompt: tuple[int, ...] = PROMPT, **fields: Any
    ) -> EngineRequest:
        """A greedy request of at most 40 tokens, unless told otherwise."""
        values = {"max_tokens": 40, "sampling": GREEDY, **fields}
        request = EngineRequest(f"request-{key}", key, prompt, **values)
        self.engine.submit(request, sink)
        return request

    async def outputs(self, prompt: tuple[int, ...] = PROMPT, **fields: Any) -> list[Said]:
        """All outputs of one request."""
        sink = CollectingSink()
        request = self.submit(sink, prompt=prompt, **fields)
        await sink.all_ended(*request.keys)
        assert sink.violations == []
        return [
            Said(sink.token_ids.get(key, []), sink.logprobs.get(key, []), sink.ended[key])
            for key in request.keys
        ]

    async def ask(self, prompt: tuple[int, ...] = PROMPT, **fields: Any) -> Said:
        """The one output of a request."""
        return (await self.outputs(prompt, **fields))[0]


@asynccontextmanager
async def opened(
    switches: dict[str, Any] | None = None, *, context_length: int = 4096, **settings: Any
) -> AsyncIterator[Opened]:
    """A started engine; its process would not be ended, but its exit code kept."""
    model = replace(fake_model(), end_token_ids=frozenset(END_IDS), context_length=context_length)
    facts = ModelFacts(
        vocabulary_size=model.vocabulary_size, end_token_ids=END_IDS, max_seq_len=context_length
    )
    told = {"model": facts, "construction_seconds": 0, **(switches or {})}
    values = {"guided_decoding_backend": "none", **settings}
    exit_codes: list[int] = []
    with using(Switches(**told)) as machine:
        with importable(with_torch=True):
            library = open_library()
        engine = TensorRtLlmEngine(
            model, TensorRtLlmSettings(**values), library, exit_process=exit_codes.append
        )
        await engine.start()
        try:
            yield Opened(engine, machine, exit_codes)
        finally:
            await engine.stop()

"""The tensorrt_llm engine on the double of its library."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest
from tokenizers import Tokenizer

from headrace.common.v1 import errors_pb2
from headrace.models.directory import ModelDirectory
from headrace.rpc.errors import ServiceError
from tests.contract.engine.subject import Answer, Subject
from tests.support.models import END_TOKEN, fake_model
from tests.support.tensorrt_llm import importable
from worker.engine.seam import EngineRequest
from worker.engine.tensorrt_llm.engine import TensorRtLlmEngine
from worker.engine.tensorrt_llm.library import open_library
from worker.engine.tensorrt_llm.settings import TensorRtLlmSettings

with importable():
    from tensorrt_llm.double.machine import using
    from tensorrt_llm.double.switches import ModelFacts, Switches


class TensorRtLlmSubject(Subject):
    """Whose library cannot continue everything: what it refuses by name is skipped."""

    async def generate_all(self, requests: Sequence[EngineRequest]) -> list[Answer]:
        try:
            return await super().generate_all(requests)
        except ServiceError as error:
            if error.reason != errors_pb2.ERROR_REASON_UNSUPPORTED_PARAMETER:
                raise
            pytest.skip(f"refused by name: {error.message}")


class GuidedTensorRtLlmSubject(TensorRtLlmSubject):
    """With the tokenizer of a model that has files, over which the double's guides are."""

    def __init__(self, engine: TensorRtLlmEngine, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        question = tuple(self.chat("What is the capital of France?"))
        super().__init__(engine, question, has_distribution=True, words_refused_guides=False)

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
async def opened_guided_tensorrt_llm(
    model: ModelDirectory, backend: str
) -> AsyncIterator[GuidedTensorRtLlmSubject]:
    """A started engine with a guided backend and a model that has files."""
    settings = TensorRtLlmSettings(sampler="TRTLLMSampler", guided_decoding_backend=backend)
    with using(Switches(iteration_seconds=0.001)):
        with importable(with_torch=True):
            library = open_library()
        engine = TensorRtLlmEngine(model, settings, library)
        await engine.start()
        try:
            tokenizer = Tokenizer.from_file(str(model.path / "tokenizer.json"))
            yield GuidedTensorRtLlmSubject(engine, tokenizer)
        finally:
            await engine.stop()


@asynccontextmanager
async def opened_tensorrt_llm(
    switches: dict[str, object] | None = None, **settings: object
) -> AsyncIterator[TensorRtLlmSubject]:
    """A started engine with the sampler that honours all; stopped at the end."""
    model: ModelDirectory = fake_model()
    facts = ModelFacts(
        vocabulary_size=model.vocabulary_size,
        end_token_ids=(END_TOKEN,),
        max_seq_len=model.context_length,
    )
    values = {"sampler": "TRTLLMSampler", "guided_decoding_backend": "none", **settings}
    # Slow enough that an iteration is a turn of the loop also on a busy machine.
    told = {"model": facts, "iteration_seconds": 0.004, **(switches or {})}
    with using(Switches(**told)):
        # Only for this moment: the engine is open for the whole session, beside tests of others.
        with importable(with_torch=True):
            library = open_library()
        engine = TensorRtLlmEngine(model, TensorRtLlmSettings(**values), library)
        await engine.start()
        try:
            yield await _with_ending_prompt(engine)
        finally:
            await engine.stop()


async def _with_ending_prompt(engine: TensorRtLlmEngine) -> TensorRtLlmSubject:
    """With the first prompt whose answer is neither very short nor long."""
    for first in range(100, 200):
        subject = TensorRtLlmSubject(engine, (first, 12, 13, 14, 15), has_distribution=True)
        answer = await subject.generate()
        if 8 <= len(answer.token_ids) < 20 and answer.ended.stop_token_id is not None:
            return subject
    raise AssertionError("no prompt of the double has such an answer")

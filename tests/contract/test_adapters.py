"""LoRA adapters beside their base model: one worker, several names, from its answer to the edge's.

The engine is a paced one that says it had adapters and keeps what it is asked.
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import grpc
import pytest

from headrace.access.key_ring import KeyRing
from headrace.client.backend import GrpcChatBackend
from headrace.client.prompt_request import PromptRequest
from headrace.common.v1 import errors_pb2
from headrace.models.directory import ModelDirectory
from headrace.rpc.bearer import OwnKey
from headrace.rpc.errors import ServiceError, error_from_rpc
from headrace.worker.v1.generate_pb2 import GenerateRequest
from headrace.worker.v1.model_pb2 import GetModelRequest, GetModelResponse
from tests.support.in_process import HELLO, small_registry
from tests.support.keys import KEY, OTHER_KEY, TRUSTED_KEY, entry, trusted_entry, write_keys
from tests.support.raw_attach import RawAttach, RunningWorker, generation, running_worker
from tests.support.raw_detokenize import running_tokenizer
from tests.support.recording_consumer import RecordingConsumer
from tests.support.scripted_scene import generation_options
from tests.support.tokenizer_models import train_tokenizer, write_model
from tokenizer_svc.registry import ModelRegistry, TokenizerModel
from tokenizer_svc.settings import TokenizerSettings
from worker.engine.paced import PacedEngine
from worker.engine.paced_settings import PacedSettings
from worker.engine.seam import EngineRequest, EventSink, ModelInfo

ADAPTERS = ("sql", "tone")


class AdapterEngine(PacedEngine):
    """Serves two adapters beside its model, and keeps the names that it is asked for."""

    def __init__(self, model: ModelDirectory, adapters: tuple[str, ...] = ADAPTERS) -> None:
        super().__init__(model, PacedSettings(tokens_per_second=2000))
        self._adapters = adapters
        self.asked: list[str] = []

    @property
    def info(self) -> ModelInfo:
        return replace(super().info, adapters=self._adapters)

    def submit(self, request: EngineRequest, sink: EventSink) -> None:
        self.asked.append(request.adapter)
        super().submit(request, sink)


@dataclass
class Scene:
    """A worker with adapters behind a backend, and a tokenizer."""

    engine: AdapterEngine
    worker: RunningWorker
    backend: GrpcChatBackend

    async def answer(self, model: str) -> tuple[str, str]:
        """The name by which the tokenizer knows it, and the text that comes back."""
        request = PromptRequest(model, tuple(HELLO))
        prompt = await self.backend.render(request, timeout_seconds=5)
        consumer = RecordingConsumer()
        self.backend.generate(prompt, generation_options(max_tokens=4), consumer)
        await consumer.ended.wait()
        return prompt.decoder.model, consumer.texts[0]


@asynccontextmanager
async def scene(registry: ModelRegistry) -> AsyncIterator[Scene]:
    """Everything connected; the worker's base model is the registry's first."""
    engine = AdapterEngine(registry.find("").directory)
    async with AsyncExitStack() as stack:
        worker = await stack.enter_async_context(running_worker(engine))
        tokenizer = await stack.enter_async_context(running_tokenizer(registry))
        backend = GrpcChatBackend([worker.address], [f"127.0.0.1:{tokenizer.server.port}"])
        await backend.start()
        stack.push_async_callback(backend.stop)
        for link in backend._links:
            await link.connected.wait()
        yield Scene(engine, worker, backend)


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> ModelRegistry:
    """One small model, whose adapters the tokenizer does not know."""
    return small_registry(tmp_path_factory.mktemp("models"))


async def test_one_worker_serves_several_names(registry: ModelRegistry) -> None:
    """Each name is listed, rendered by its base model's tokenizer, and reaches the engine."""
    async with scene(registry) as here:
        models = here.backend.models
        answers = [await here.answer(name) for name in ("tone", "small", "sql")]

        assert [model.name for model in models] == ["small", "sql", "tone"]
        assert len({model.system_fingerprint for model in models}) == 3
        assert [known for known, _ in answers] == ["small"] * 3
        assert all(text for _, text in answers)
        assert here.engine.asked == ["tone", "", "sql"]


async def test_a_tokenizer_that_knows_the_adapter_goes_by_its_name(tmp_path: Path) -> None:
    """So an adapter may have a chat template of its own; the tokenizer is the same one."""
    small, tone = (write_model(tmp_path / name, train_tokenizer()) for name in ("small", "tone"))
    assert small.tokenizer_fingerprint == tone.tokenizer_fingerprint
    models = [TokenizerModel.load(one, TokenizerSettings()) for one in (small, tone)]
    async with scene(ModelRegistry(models)) as here:
        answers = [await here.answer(name) for name in ("tone", "sql")]

        assert [known for known, _ in answers] == ["tone", "small"]
        assert here.engine.asked == ["tone", "sql"]


async def test_an_unknown_name_is_told_what_is_served(registry: ModelRegistry) -> None:
    """On a call and on a stream alike, in GetModel too."""
    engine = AdapterEngine(registry.find("").directory)
    told = "`nobody` is not served here; this worker serves `small`, `sql`, `tone`."
    async with running_worker(engine) as worker:
        request = GenerateRequest(request=generation(model="nobody"))
        with pytest.raises(grpc.aio.AioRpcError) as generate:
            await worker.stub.Generate(request).read()
        with pytest.raises(grpc.aio.AioRpcError) as described:
            await worker.stub.GetModel(GetModelRequest(model="nobody"))
        raw = RawAttach(worker.stub)
        await raw.submit(1, generation(model="nobody"))
        frames = await raw.read_until("terminals")
        failure = frames[-1].terminals[0].failure
        raw.call.cancel()

    for raised in (generate, described):
        error = error_from_rpc(raised.value, peer="worker")
        assert error.reason == errors_pb2.ERROR_REASON_MODEL_NOT_FOUND
        assert told in error.message
    assert told in failure.message


def _named(models: Sequence[GetModelResponse]) -> list[tuple[str, str, list[str]]]:
    return [(one.model, one.base_model, list(one.served_models)) for one in models]


async def test_a_worker_describes_each_name(registry: ModelRegistry) -> None:
    """An adapter is what its base model is, but for its fingerprint and its base's name."""
    async with running_worker(AdapterEngine(registry.find("").directory)) as worker:
        base, sql = [
            await worker.stub.GetModel(GetModelRequest(model=name)) for name in ("", "sql")
        ]

    names = ["small", "sql", "tone"]
    assert _named([base, sql]) == [("small", "", names), ("sql", "small", names)]
    assert sql.tokenizer_fingerprint == base.tokenizer_fingerprint
    assert sql.system_fingerprint == f"{base.system_fingerprint}_sql"


async def test_a_worker_without_adapters_serves_its_model(registry: ModelRegistry) -> None:
    """The list holds one name."""
    engine = AdapterEngine(registry.find("").directory, adapters=())
    async with running_worker(engine) as worker:
        only = await worker.stub.GetModel(GetModelRequest())

    assert _named([only]) == [("small", "", ["small"])]


async def test_keys_admit_adapters_by_name(registry: ModelRegistry, tmp_path: Path) -> None:
    """A key for an adapter reaches that alone, and does not learn of the others."""
    entries = (
        entry(KEY, more='models = ["tone"]'),
        entry(OTHER_KEY, more='models = ["small"]'),
        trusted_entry(TRUSTED_KEY),
    )
    keys = KeyRing(write_keys(tmp_path / "keys.toml", *entries))
    engine = AdapterEngine(registry.find("").directory)
    async with running_worker(engine, keys=keys) as worker:

        async def ask(key: str, model: str) -> ServiceError | None:
            request = GenerateRequest(request=generation(model=model, max_tokens=1))
            try:
                async for _ in worker.stub.Generate(request, metadata=OwnKey(key).metadata()):
                    pass
            except grpc.aio.AioRpcError as error:
                return error_from_rpc(error, peer="worker")
            return None

        described = [
            await worker.stub.GetModel(GetModelRequest(), metadata=OwnKey(key).metadata())
            for key in (KEY, OTHER_KEY, TRUSTED_KEY)
        ]
        refused = [await ask(KEY, "small"), await ask(KEY, "sql"), await ask(OTHER_KEY, "tone")]
        admitted = [await ask(KEY, "tone"), await ask(KEY, ""), await ask(OTHER_KEY, "")]

    assert _named(described) == [
        ("tone", "", ["tone"]),
        ("small", "", ["small"]),
        ("small", "", ["small", "sql", "tone"]),
    ]
    for name, error in zip(("small", "sql", "tone"), refused, strict=True):
        assert error is not None
        assert error.message == (
            f"The model `{name}` does not exist or you do not have access to it."
        )
    assert admitted == [None, None, None]
    assert engine.asked == ["tone", "tone", ""]

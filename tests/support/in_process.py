"""Paced workers and a real tokenizer in this process, with a small model of their own."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from headrace.access.key_ring import KeyRing
from headrace.client.backend import GrpcChatBackend
from headrace.client.prompt_request import ChatMessage
from headrace.models.directory import ModelDirectory
from headrace.rpc.credentials import PeerCredentials
from headrace.rpc.limits import FrameTiming
from headrace.runtime.tls_settings import ServerTlsSettings
from tests.support.raw_attach import RunningWorker, running_worker
from tests.support.raw_detokenize import RunningTokenizer, running_tokenizer
from tests.support.tokenizer_models import train_tokenizer, write_model
from tokenizer_svc.registry import ModelRegistry, TokenizerModel
from tokenizer_svc.settings import TokenizerSettings
from worker.engine.paced import PacedEngine
from worker.engine.paced_settings import PacedSettings
from worker.engine.seam import EngineRequest, EventSink

HELLO = (ChatMessage("user", "Hello, world!"),)


class NoticingPacedEngine(PacedEngine):
    """A paced engine that lets a test wait for requests."""

    def __init__(self, model: ModelDirectory, settings: PacedSettings) -> None:
        super().__init__(model, settings)
        self._num_submitted = 0
        self._submitted = asyncio.Event()

    def submit(self, request: EngineRequest, sink: EventSink) -> None:
        super().submit(request, sink)
        self._num_submitted += 1
        self._submitted.set()

    async def has_submitted(self, count: int) -> None:
        """Return when so many requests have come."""
        while self._num_submitted < count:
            self._submitted.clear()
            await self._submitted.wait()


@dataclass
class InProcessStack:
    """Workers and one tokenizer, of one model."""

    model: str
    engines: list[NoticingPacedEngine]
    workers: list[RunningWorker]
    tokenizer: RunningTokenizer

    @property
    def worker(self) -> RunningWorker:
        """The first worker."""
        return self.workers[0]

    @property
    def worker_addresses(self) -> list[str]:
        """Where the workers listen."""
        return [worker.address for worker in self.workers]

    @property
    def tokenizer_addresses(self) -> list[str]:
        """Where the tokenizer listens."""
        return [f"127.0.0.1:{self.tokenizer.server.port}"]

    async def idle(self) -> None:
        """Return when no worker and no tokenizer has anything open."""
        for worker in self.workers:
            await worker.servicer.table.idle()
        await self.tokenizer.servicer.activity.idle()


def small_registry(folder: Path) -> ModelRegistry:
    """One small model, written to `folder`."""
    directory = write_model(folder / "small", train_tokenizer())
    return ModelRegistry([TokenizerModel.load(directory, TokenizerSettings())])


@asynccontextmanager
async def in_process_stack(
    registry: ModelRegistry,
    settings: PacedSettings | None = None,
    *,
    workers: int = 1,
    timing: FrameTiming | None = None,
    tls: ServerTlsSettings | None = None,
    keys: KeyRing | None = None,
) -> AsyncIterator[InProcessStack]:
    """Serve the registry's first model with paced engines."""
    directory = registry.find("").directory
    async with AsyncExitStack() as stack:
        engines = [
            NoticingPacedEngine(directory, settings or PacedSettings()) for _ in range(workers)
        ]
        running = [
            await stack.enter_async_context(running_worker(engine, timing, tls, keys))
            for engine in engines
        ]
        tokenizer = await stack.enter_async_context(
            running_tokenizer(registry, timing, tls=tls, keys=keys)
        )
        yield InProcessStack(directory.name, engines, running, tokenizer)


@asynccontextmanager
async def connected_backend(
    stack: InProcessStack, credentials: PeerCredentials | None = None
) -> AsyncIterator[GrpcChatBackend]:
    """A backend that is connected to all of the stack."""
    backend = GrpcChatBackend(
        stack.worker_addresses, stack.tokenizer_addresses, credentials=credentials
    )
    await backend.start()
    try:
        for link in backend._links:
            await link.connected.wait()
        yield backend
    finally:
        await backend.stop()

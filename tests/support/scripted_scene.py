"""A backend between scripted workers and scripted tokenizers, all connected."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

from headrace.client.answers import GenerationOptions, RenderedPrompt
from headrace.client.backend import GrpcChatBackend
from headrace.client.generation import RunningGeneration
from headrace.rpc.limits import FrameTiming
from headrace.telemetry.spans import Tracing
from headrace.worker.v1.attach_pb2 import Submission
from headrace.worker.v1.generation_pb2 import SamplingParams
from tests.support.recording_consumer import RecordingConsumer
from tests.support.scripted_stream import ScriptedStream
from tests.support.scripted_tokenizer import ScriptedTokenizer, decoder, scripted_tokenizer
from tests.support.scripted_worker import MODEL, ScriptedWorker, scripted_worker


@dataclass
class Scene:
    """`worker_streams[i]` and `tokenizer_streams[i]` are the greeted streams of peer i."""

    backend: GrpcChatBackend
    workers: list[ScriptedWorker]
    tokenizers: list[ScriptedTokenizer]
    worker_streams: list[ScriptedStream]
    tokenizer_streams: list[ScriptedStream]

    @property
    def worker(self) -> ScriptedStream:
        """The first worker's stream."""
        return self.worker_streams[0]

    @property
    def tokenizer(self) -> ScriptedStream:
        """The first tokenizer's stream."""
        return self.tokenizer_streams[0]

    def generate(
        self, consumer: RecordingConsumer, output_format: str = "text", **options: Any
    ) -> RunningGeneration:
        """Start a request of three prompt tokens."""
        prompt = RenderedPrompt(MODEL, [5, 6, 7], decoder(output_format))
        return self.backend.generate(prompt, generation_options(**options), consumer)

    async def serving_worker(self, count: int = 1) -> tuple[ScriptedStream, Submission]:
        """Whichever worker's stream has the newest of `count` submissions, and that submission."""
        while len(found := self._submissions()) < count:
            waits = [
                asyncio.create_task(stream.changed())
                for stream in self.worker_streams
                if not stream.has_ended
            ]
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            for wait in waits:
                wait.cancel()
        return max(found, key=lambda pair: pair[1].first_handle)

    def _submissions(self) -> list[tuple[ScriptedStream, Submission]]:
        return [(s, entry) for s in self.worker_streams for entry in s.entries("submissions")]


def generation_options(**options: Any) -> GenerationOptions:
    """Options of a small request."""
    values: dict[str, Any] = {"request_id": "r1", "sampling": SamplingParams(), "max_tokens": 9}
    return GenerationOptions(**(values | options))


@asynccontextmanager
async def scripted_scene(
    workers: int = 1,
    tokenizers: int = 1,
    timing: FrameTiming | None = None,
    tracing: Tracing | None = None,
    *,
    continues: bool = False,
) -> AsyncIterator[Scene]:
    """Start the peers and a backend, and greet on every stream.

    `continues`: the workers say that they go on behind what others generated.
    """
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        worker_peers = [await enter(scripted_worker()) for _ in range(workers)]
        tokenizer_peers = [await enter(scripted_tokenizer()) for _ in range(tokenizers)]
        for peer in worker_peers:
            peer.model.honoured_fields[:] = ["output_prefix_token_ids"] if continues else []
        backend = GrpcChatBackend(
            [peer.address for peer in worker_peers],
            [peer.address for peer in tokenizer_peers],
            timing,
            tracing=tracing,
        )
        await backend.start()
        stack.push_async_callback(backend.stop)
        scene = Scene(
            backend,
            worker_peers,
            tokenizer_peers,
            [await peer.greeted() for peer in worker_peers],
            [await peer.greeted() for peer in tokenizer_peers],
        )
        for link in backend._links:
            await link.connected.wait()
        yield scene


def nothing_left(scene: Scene) -> bool:
    """No link has an output or keeps tokens, and nothing is routed."""
    backend = scene.backend
    kept = [link._aboard or link._log._begins or link._log._frames for link in backend._workers]
    return not (sum(link.num_outputs for link in backend._links) or any(kept) or backend._routes)


async def tokenizer_of(scene: Scene, handle: int) -> ScriptedStream:
    """The tokenizer's stream on which an output was closed by the worker's word."""
    while True:
        for stream in scene.tokenizer_streams:
            if handle in [c.handle for c in stream.entries("closes") if c.finish_reason]:
                return stream
        waits = [
            asyncio.create_task(s.changed()) for s in scene.tokenizer_streams if not s.has_ended
        ]
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        for wait in waits:
            wait.cancel()

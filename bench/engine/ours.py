"""Our engine: in this process by the seam, and in a worker process through its shared stream."""

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from bench.engine.load import TEMPERATURE, TOP_P, Timeline
from bench.streaming.cpu import cpu_seconds
from bench.streaming.stack import free_port, process
from headrace.client.worker_link import WorkerLink
from headrace.models.directory import ModelDirectory
from headrace.rpc.limits import FrameTiming
from headrace.runtime.identity import Identity
from headrace.worker.v1.generation_pb2 import (
    GenerationRequest,
    OutputLogprobs,
    Started,
    Terminal,
)
from headrace.worker.v1.generation_pb2 import SamplingParams as WireSampling
from worker.engine.openvino.engine import OpenVinoEngine
from worker.engine.openvino.settings import OpenVinoSettings
from worker.engine.seam import EngineEvents, EngineRequest, SamplingParams


class InProcess:
    """The engine alone."""

    name = "in process"

    def __init__(self, engine: OpenVinoEngine) -> None:
        self._engine = engine

    def cpu_seconds(self) -> float:
        """Of this process; nothing else runs in it meanwhile."""
        return time.process_time()

    async def run(self, prompts: Sequence[Sequence[int]], new_tokens: int) -> Timeline:
        """Submit all at once; the sink is called on this loop."""
        timeline, done = Timeline(), asyncio.Event()
        left = set(range(len(prompts)))

        class Sink:
            def on_events(self, events: EngineEvents) -> None:
                for key, count in zip(events.keys, events.counts, strict=True):
                    timeline.add(key, count)
                left.difference_update(event.key for event in events.ended)
                if not left:
                    done.set()

        sink = Sink()
        for key, prompt in enumerate(prompts):
            request = EngineRequest(
                f"bench-{key}",
                key,
                prompt,
                new_tokens,
                sampling=SamplingParams(temperature=TEMPERATURE, top_p=TOP_P),
                ignore_eos=True,
            )
            self._engine.submit(request, sink)
        await done.wait()
        return timeline


@asynccontextmanager
async def in_process(
    directory: ModelDirectory, settings: OpenVinoSettings
) -> AsyncIterator[InProcess]:
    """A started engine."""
    engine = OpenVinoEngine(directory, settings)
    await engine.start()
    try:
        yield InProcess(engine)
    finally:
        await engine.stop()


class _Run:
    """One run's outputs on the link, by handle."""

    def __init__(self, handles: range, link: WorkerLink) -> None:
        self._link = link
        self.timeline = Timeline()
        self.handles = handles
        self.first = asyncio.Event()
        self.done = asyncio.Event()
        self.lost = ""
        self._left = len(handles)

    def on_worker_started(self, _started: Started) -> None:
        """Nothing is counted from it."""

    def on_worker_terminal(self, terminal: Terminal) -> None:
        """Counts down; a failure ends the benchmark."""
        if terminal.HasField("failure"):
            self._fail(terminal.failure.message)
        self._link.release(terminal.handle)
        self._left -= 1
        if not self._left:
            self.done.set()

    def on_worker_lost(self, handles: Sequence[int], *, is_crash: bool) -> None:
        """Ends the benchmark."""
        del handles, is_crash
        self._fail("the worker was lost")

    def _fail(self, why: str) -> None:
        self.lost = why
        self.done.set()

    async def wait(self) -> Timeline:
        """The whole run. Raises RuntimeError when it failed."""
        await self.done.wait()
        if self.lost:
            raise RuntimeError(self.lost)
        return self.timeline


class ThroughGrpc:
    """A worker process on loopback and the edge's end of its stream."""

    name = "through gRPC"

    def __init__(self, address: str, pid: int) -> None:
        self.pid = pid
        self.link = WorkerLink(address, Identity(), FrameTiming(), self)
        self._handles = itertools.count(1)
        self._runs: dict[int, _Run] = {}

    def cpu_seconds(self) -> float:
        """Of the worker process."""
        return cpu_seconds(self.pid)

    def feed(
        self,
        handles: Sequence[int],
        counts: Sequence[int],
        _ids: Sequence[int],
        _logprobs: Sequence[OutputLogprobs] = (),
    ) -> None:
        """Take a frame's arrays."""
        for handle, count in zip(handles, counts, strict=True):
            run = self._runs[handle]
            run.timeline.add(handle, count)
            run.first.set()

    def begin(self, prompts: Sequence[Sequence[int]], new_tokens: int) -> _Run:
        """Submit all at once."""
        first = next(self._handles)
        for _ in prompts[1:]:
            next(self._handles)
        run = _Run(range(first, first + len(prompts)), self.link)
        sampling = WireSampling(temperature=TEMPERATURE, top_p=TOP_P)
        for handle, prompt in zip(run.handles, prompts, strict=True):
            self._runs[handle] = run
            request = GenerationRequest(
                request_id=f"bench-{handle}",
                prompt_token_ids=prompt,
                max_tokens=new_tokens,
                sampling=sampling,
                ignore_eos=True,
            )
            self.link.submit(handle, request, run)
        return run

    async def run(self, prompts: Sequence[Sequence[int]], new_tokens: int) -> Timeline:
        """Submit all at once and wait for all."""
        return await self.begin(prompts, new_tokens).wait()


@asynccontextmanager
async def through_grpc(
    model: str, settings: OpenVinoSettings, folder: Path
) -> AsyncIterator[ThroughGrpc]:
    """A connected worker process; ended with the context."""
    port = free_port()
    config = folder / "worker.toml"
    config.write_text(
        f'[worker]\nmodel = "{model}"\nport = {port}\n[worker.openvino]\n'
        f'numerics = "{settings.numerics}"\nkv_cache_bytes = {settings.kv_cache_bytes}\n',
        encoding="utf-8",
    )
    command = ["-m", "headrace", "worker", "--config", str(config), "--log-level", "warning"]
    with process(command, folder / "worker.log") as child:
        subject = ThroughGrpc(f"127.0.0.1:{port}", child.pid)
        running = asyncio.create_task(subject.link.run())
        try:
            async with asyncio.timeout(60):
                await subject.link.connected.wait()
            yield subject
        finally:
            running.cancel()
            with suppress(asyncio.CancelledError):
                await running
            await subject.link.close()

"""Outputs that wait for their guide, before any sequence of them is queued; on the loop.

Each request leaves exactly once: compiled, failed, or when all its outputs were aborted.
"""

import asyncio
import time
from collections.abc import Callable
from collections.abc import Sequence as Ids
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from headrace.common.v1 import errors_pb2
from headrace.rpc.errors import ServiceError
from worker.engine.openvino.guide_compiler import GuideCompiler
from worker.engine.openvino.guide_matcher import GuideMatcher
from worker.engine.openvino.sequence import Sequence
from worker.engine.seam import EndedEvent, EngineEvents, EventSink, Guide

_THREADS = 2


@dataclass(slots=True, eq=False)
class _Waiting:
    leader: Sequence
    task: "asyncio.Task[None] | None" = None
    aborted: set[int] = field(default_factory=set)
    begun_at: float | None = None  # when a thread took it up, of the monotonic clock

    @property
    def open_keys(self) -> list[int]:
        return [key for key in self.leader.request.keys if key not in self.aborted]


class Compilations:
    """Gives each leader of sequences to `on_ready`, with matchers, and the keys aborted since.

    A guide has `most_seconds` from when a thread takes it up, and as long to wait for one: only
    what was taken up is at fault. `num_ended` counts outputs that ended here.
    """

    def __init__(
        self,
        compiler: GuideCompiler,
        most_seconds: float,
        on_ready: Callable[[Sequence, Ids[int]], None],
    ) -> None:
        self._compiler = compiler
        self._most_seconds = most_seconds
        self._on_ready = on_ready
        self._pool = ThreadPoolExecutor(_THREADS, "guide-compiler")
        self._waiting: set[_Waiting] = set()
        self.num_ended = 0

    def add(self, leader: Sequence, guide: Guide) -> None:
        """Compile for all outputs of a request. Raises ServiceError for a guide too long."""
        self._compiler.check_size(guide)
        waiting = _Waiting(leader)
        self._waiting.add(waiting)
        waiting.task = asyncio.create_task(self._compile(waiting, guide))

    def abort(self, sink: EventSink, keys: Ids[int]) -> None:
        """Forget outputs; keys that do not wait here are ignored."""
        for waiting in [entry for entry in self._waiting if entry.leader.sink is sink]:
            waiting.aborted.update(set(keys) & set(waiting.leader.request.keys))
            if not waiting.open_keys:
                self._leave(waiting)

    def close(self, error: ServiceError) -> None:
        """Fail all that wait, and take no more."""
        for waiting in list(self._waiting):
            self._fail(waiting, error)
        self._pool.shutdown(wait=False, cancel_futures=True)

    async def _compile(self, waiting: _Waiting, guide: Guide) -> None:
        loop = asyncio.get_running_loop()
        compiling = loop.run_in_executor(self._pool, self._taken_up, waiting, guide)
        try:
            await asyncio.wait([compiling], timeout=self._most_seconds)
            if waiting.begun_at is not None:
                left = waiting.begun_at + self._most_seconds - time.monotonic()
                await asyncio.wait([compiling], timeout=left)
            if not compiling.done():
                self._fail(waiting, self._late(waiting, guide))
                return
            matcher = await compiling
        except ServiceError as error:
            self._fail(waiting, error)
        else:
            self._pass_on(waiting, matcher)
        finally:
            compiling.cancel()  # what no thread has taken up yet

    def _taken_up(self, waiting: _Waiting, guide: Guide) -> GuideMatcher:
        """On a thread."""
        waiting.begun_at = time.monotonic()
        prefix = waiting.leader.request.output_prefix_token_ids
        return self._compiler.compile(guide, prefix)

    def _late(self, waiting: _Waiting, guide: Guide) -> ServiceError:
        seconds = f"{self._most_seconds:g} s"
        if waiting.begun_at is None:
            return ServiceError(
                errors_pb2.ERROR_REASON_OVERLOADED,
                f"Too many guides are being compiled; this one had no turn within {seconds}.",
                retry_after_seconds=1,
            )
        return ServiceError(
            errors_pb2.ERROR_REASON_INVALID_REQUEST,
            f"{guide.param} takes longer than {seconds} to compile, which is the most allowed.",
            guide.param,
        )

    def _pass_on(self, waiting: _Waiting, matcher: GuideMatcher) -> None:
        self._waiting.discard(waiting)
        leader = waiting.leader
        leader.matcher = matcher
        for follower in leader.followers:
            follower.matcher = matcher.copy()
        self._on_ready(leader, sorted(waiting.aborted))

    def _fail(self, waiting: _Waiting, error: ServiceError) -> None:
        keys = waiting.open_keys
        self._leave(waiting)
        ended = [EndedEvent(key, error=error) for key in keys]
        waiting.leader.sink.on_events(EngineEvents(ended=ended))

    def _leave(self, waiting: _Waiting) -> None:
        self._waiting.discard(waiting)
        self.num_ended += waiting.leader.request.n
        if waiting.task is not None and waiting.task is not asyncio.current_task():
            waiting.task.cancel()

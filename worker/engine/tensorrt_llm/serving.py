"""What runs on a loaded LLM: requests on their way from the queue to their ends.

The library computes in processes of its own and is called on the loop's thread only, where its
results bind to the loop. Nothing here waits for it without a bound. A request is in one of three
places: in the queue, with the library and waited for, or with the library and abandoned.
"""

import asyncio
import time
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import structlog

from headrace.common.v1 import errors_pb2
from headrace.rpc.errors import ServiceError
from worker.engine.seam import EndedEvent, EngineLoad, EngineRequest, EventSink
from worker.engine.tensorrt_llm.abort_queue import AbortQueue
from worker.engine.tensorrt_llm.failures import (
    Verdict,
    fatal_error,
    step_verdict,
    submission_verdict,
)
from worker.engine.tensorrt_llm.fault_burst import FaultBurst
from worker.engine.tensorrt_llm.library import Library, Llm, is_healthy
from worker.engine.tensorrt_llm.lifetime import Canary
from worker.engine.tensorrt_llm.load import LoadReader
from worker.engine.tensorrt_llm.outbox import Outbox
from worker.engine.tensorrt_llm.request_checks import check_request, request_limits
from worker.engine.tensorrt_llm.request_queue import RequestQueue
from worker.engine.tensorrt_llm.running_request import QueuedRequest, RunningRequest, StepCounts
from worker.engine.tensorrt_llm.sampling_arguments import (
    EndTokens,
    SamplingContext,
    sampling_arguments,
)
from worker.engine.tensorrt_llm.settings import TensorRtLlmSettings
from worker.engine.tensorrt_llm.watchdog import Watchdog

_FIRST_STATISTICS_SECONDS = 5.0

_log = structlog.get_logger(__name__)


class Serving:
    """Takes requests until it is stopped or has failed; `on_failure` is told once, at the end."""

    def __init__(
        self,
        llm: Llm,
        library: Library,
        settings: TensorRtLlmSettings,
        canary: Canary,
        on_failure: Callable[[ServiceError], None],
    ) -> None:
        self._llm = llm
        self._library = library
        self._settings = settings
        self._canary = canary
        self._on_failure = on_failure
        self._loop = asyncio.get_running_loop()
        self._refusal: ServiceError | None = None
        self._queue = RequestQueue(
            places=settings.max_batch_size + settings.max_handed_ahead_outputs,
            most=settings.max_queued_outputs,
            priority_step_seconds=settings.priority_step_seconds,
        )
        self._open: dict[tuple[EventSink, int], QueuedRequest] = {}
        self._running: dict[QueuedRequest, RunningRequest] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._is_handing_over = False
        self._counts = StepCounts()
        self._outbox = Outbox(self._loop)
        self._reader = LoadReader(llm)
        self._burst = FaultBurst(self._doubt)
        self._aborts = AbortQueue(
            self._tell_abort, per_second=settings.max_aborts_per_second, is_on=settings.aborts
        )
        self._watchdog = Watchdog(
            settings.watchdog_seconds, self._is_busy, lambda: is_healthy(llm), self._fail
        )

    @property
    def load(self) -> EngineLoad:
        """How busy it is; any thread may ask.

        Where nobody waits for an answer no block is needed, whatever was told last: statistics come
        only while something computes. They count blocks kept for reuse as free ones, and tell
        nothing of evictions.
        """
        blocks = self._reader.blocks
        free = blocks.free if self._is_busy() else blocks.total
        return EngineLoad(
            queued_outputs=self._queue.num_waiting,
            total_blocks=blocks.total,
            free_blocks=free,
            referenced_blocks=blocks.total - free,
            preemptions=self._reader.preemptions,
            prefilled_tokens=self._counts.prefilled_tokens,
        )

    async def start(self, ends: EndTokens, vocabulary_size: int) -> None:
        """Begin to watch and to read statistics; the LLM must have answered before."""
        self._context = SamplingContext(
            ends, vocabulary_size, self._settings.sampler == "TRTLLMSampler"
        )
        if self._settings.iteration_statistics:
            self._reader.on_response()
            _ = self._start_task(self._reader.run())
            await self._reader.first(_FIRST_STATISTICS_SECONDS)
        blocks = self._reader.blocks
        self._limits = request_limits(self._settings, blocks.total * blocks.tokens_per_block)
        self._watchdog.start()

    def submit(self, request: EngineRequest, sink: EventSink) -> None:
        """Queue a request.

        Raises ServiceError: OVERLOADED when the queue is full, CONTEXT_LENGTH_EXCEEDED for what
        cannot be read or kept, INVALID_REQUEST for a guide that is too long, UNSUPPORTED_PARAMETER
        for a continuation with a guide or penalties, and what ended the engine.
        """
        if self._refusal is not None:
            raise self._refusal
        check_request(request, self._limits)
        queued = self._queue.add(request, sink, time.monotonic())
        for key in request.keys:
            self._open[sink, key] = queued
        self._hand_over_soon()

    def abort(self, sink: EventSink, keys: Sequence[int]) -> None:
        """Say nothing more of these outputs; a request without any other is aborted."""
        for key in keys:
            queued = self._open.pop((sink, key), None)
            if queued is None:
                continue
            queued.open_keys.discard(key)
            if not queued.open_keys:
                self._abandon(queued)

    async def stop(self, error: ServiceError) -> None:
        """End every output with this error, or with what it failed of, and every task."""
        self._refusal = self._refusal or error
        self._end_all(self._refusal)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _is_busy(self) -> bool:
        """The library has something to compute that somebody waits for, or that goes on anyway."""
        if not self._settings.aborts:
            return bool(self._running)
        # A copy: another thread may be asking.
        return any(running.is_live for running in tuple(self._running.values()))

    def _start_task(self, coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = self._loop.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._on_task_end)
        return task

    def _on_task_end(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("engine_task_failed", exc_info=error)
            self._fail(fatal_error(error))

    def _hand_over_soon(self) -> None:
        """In the next turn: what is submitted in this one is ordered first."""
        if not self._is_handing_over:
            self._is_handing_over = True
            self._loop.call_soon(self._hand_over)

    def _hand_over(self) -> None:
        self._is_handing_over = False
        if not self._is_busy():
            self._watchdog.feed()
        for queued in self._queue.take():
            self._hand(queued)

    def _hand(self, queued: QueuedRequest) -> None:
        try:
            running = self._submitted(queued)
        except ServiceError as error:
            self._refuse(queued, Verdict(error))
        except Exception as error:  # noqa: BLE001 (the library may raise anything; it is classified)
            verdict = submission_verdict(error, queued.request, self._library.request_error)
            self._refuse(queued, verdict)
        else:
            self._running[queued] = running
            running.task = self._start_task(self._step(running))

    def _submitted(self, queued: QueuedRequest) -> RunningRequest:
        """Hand a request to the library. Raises ServiceError and whatever the library raises."""
        request = queued.request
        result = self._llm.generate_async(
            {"prompt_token_ids": [*request.prompt_token_ids, *request.output_prefix_token_ids]},
            sampling_params=self._library.sampling(sampling_arguments(request, self._context)),
            streaming=True,
            **self._canary.keywords.of_request(request),
        )
        return RunningRequest(queued, result, self._context.ends, self._outbox, self._counts)

    def _refuse(self, queued: QueuedRequest, verdict: Verdict) -> None:
        self._queue.give_back(queued)
        self._end(queued, verdict.error)
        if verdict.is_fatal:
            self._fail(verdict.error)

    async def _step(self, running: RunningRequest) -> None:
        """A request's task. A result that raised is never stepped again: it would hang."""
        try:
            await running.run(self._on_step)
        except Exception as error:  # noqa: BLE001 (the library may raise anything; it is classified)
            request = running.queued.request
            verdict = step_verdict(error, request, self._library.request_error)
            self._on_verdict(running, verdict)
        else:
            # Where something is left, it ended without a final response.
            self._end(running.queued, _no_final_response())
        finally:
            self._release(running)

    def _on_verdict(self, running: RunningRequest, verdict: Verdict) -> None:
        _log.warning(
            "request_failed",
            request_id=running.queued.request.request_id,
            problem=verdict.error.message,
            fatal=verdict.is_fatal,
        )
        if verdict.is_suspect:
            # What waits inside the library is not in its steps, and does not fail with them.
            computing = [one for one in self._running.values() if one.has_answered and one.is_live]
            self._burst.note(running, verdict.error.message, computing)
        self._end(running.queued, verdict.error)
        if verdict.is_fatal:
            self._fail(verdict.error)

    def _on_step(self, running: RunningRequest) -> None:
        self._watchdog.feed()
        self._reader.on_response()
        # One that has finished is not aborted: that would use up what may be told in a second.
        if not running.is_live and not running.is_finished:
            self._abandon(running.queued)

    def _abandon(self, queued: QueuedRequest) -> None:
        """Nobody waits for it: it leaves the queue, or the library is told."""
        running = self._running.get(queued)
        if running is None:
            self._queue.remove(queued)
        else:
            self._aborts.add(running)

    def _tell_abort(self, running: RunningRequest) -> None:
        running.abort()
        if running.task is not None:
            # It may never answer.
            self._loop.call_later(self._settings.silence_after_abort_seconds, running.task.cancel)

    def _release(self, running: RunningRequest) -> None:
        queued = running.queued
        self._aborts.discard(running)
        if self._running.pop(queued, None) is None:
            return
        self._queue.give_back(queued)
        self._forget(queued)
        self._hand_over_soon()

    def _doubt(self, message: str) -> None:
        """All requests failed alike: a canary tells whether it can go on."""
        _log.error("requests_failed_together", problem=message)
        _ = self._start_task(self._prove_again())

    async def _prove_again(self) -> None:
        try:
            await self._canary.prove(self._llm)
        except ServiceError as error:
            self._fail(error)

    def _fail(self, error: ServiceError) -> None:
        """End everything: the process is to be replaced."""
        if self._refusal is not None:
            return
        _log.error("engine_failed", problem=error.message)
        self._refusal = error
        self._end_all(error)
        self._on_failure(error)

    def _end_all(self, error: ServiceError) -> None:
        """Every output ends, at once; whoever still waits for the library waits no more."""
        self._watchdog.stop()
        self._aborts.close()
        self._burst.close()
        for queued in self._queue.clear():
            self._end(queued, error)
        for queued, running in list(self._running.items()):
            self._end(queued, error)
            if running.task is not None and running.task is not asyncio.current_task():
                running.task.cancel()
        self._outbox.flush()

    def _end(self, queued: QueuedRequest, error: ServiceError) -> None:
        """End what is open of a request, wherever it is."""
        running = self._running.get(queued)
        open_keys, queued.open_keys = queued.open_keys, set()
        if open_keys:
            self._outbox.batch(queued.sink).ended += [
                EndedEvent(
                    key, error=error, num_output_tokens=running.num_sent(key) if running else 0
                )
                for key in sorted(open_keys)
            ]
        self._forget(queued)

    def _forget(self, queued: QueuedRequest) -> None:
        """Its keys may be used again."""
        for key in queued.request.keys:
            if self._open.get((queued.sink, key)) is queued:
                del self._open[queued.sink, key]


def _no_final_response() -> ServiceError:
    return ServiceError(
        errors_pb2.ERROR_REASON_ENGINE_FAILURE, "TensorRT-LLM gave no final response."
    )

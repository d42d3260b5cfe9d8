"""The engine of the seam: the loop's side of a thread that generates.

The two sides meet in three places only: the mailbox (commands to the thread), one hop to the loop
an iteration (events), and the thread's snapshot (load). Neither ever waits for the other.
"""

import asyncio
import itertools
import secrets
import threading
import time
from collections.abc import Callable
from collections.abc import Sequence as Ids
from dataclasses import replace

import structlog

from headrace.common.v1 import errors_pb2
from headrace.models.directory import ModelDirectory
from headrace.rpc.errors import ServiceError
from worker.engine.openvino.compilations import Compilations
from worker.engine.openvino.events import SinkEvents
from worker.engine.openvino.iterations import Iterations
from worker.engine.openvino.model import LoadedModel, load_model
from worker.engine.openvino.sequence import Sequence
from worker.engine.openvino.settings import OpenVinoSettings
from worker.engine.seam import EngineLoad, EngineRequest, EventSink, Guide, ModelInfo

Loader = Callable[[ModelDirectory, OpenVinoSettings], LoadedModel]

_log = structlog.get_logger(__name__)


class OpenVinoEngine:
    """Generates with the model in `model` on this machine's CPU; see worker.engine.seam.Engine."""

    def __init__(
        self, model: ModelDirectory, settings: OpenVinoSettings, *, loader: Loader = load_model
    ) -> None:
        self._directory = model
        self._loader = loader
        self._settings = settings
        self._model: LoadedModel | None = None
        self._info: ModelInfo | None = None
        self._iterations: Iterations | None = None
        self._thread: threading.Thread | None = None
        self._refusal: ServiceError | None = None
        self._failure: asyncio.Future[ServiceError] | None = None
        self._compilations: Compilations | None = None
        self._submitted_outputs = 0
        self._arrivals = itertools.count()

    @property
    def info(self) -> ModelInfo:
        """What it serves. Raises ServiceError before `start`."""
        if self._info is None:
            raise _failure("The engine has not been started.")
        return self._info

    @property
    def load(self) -> EngineLoad:
        """How busy it is: blocks as they were after the last iteration, the queue as it is now."""
        if self._iterations is None:
            return EngineLoad()
        return replace(self._iterations.snapshot.load, queued_outputs=self._queued_outputs)

    async def start(self) -> None:
        """Load the model, off the loop, and begin. Raises ServiceError, one sentence."""
        loop = asyncio.get_running_loop()
        self._failure = loop.create_future()
        self._model = await asyncio.to_thread(self._loader, self._directory, self._settings)
        self._info = self._model.info

        def deliver(events: SinkEvents) -> None:
            loop.call_soon_threadsafe(_deliver, events)

        self._iterations = Iterations(self._model, deliver)
        if self._model.guides is not None:
            seconds = self._settings.guide_compile_seconds
            self._compilations = Compilations(self._model.guides, seconds, self._post)
        self._thread = threading.Thread(
            target=self._run, args=(self._iterations, loop), name="openvino-engine", daemon=True
        )
        self._thread.start()

    def submit(self, request: EngineRequest, sink: EventSink) -> None:
        """Queue a request.

        Raises ServiceError: OVERLOADED when the queue is full, CONTEXT_LENGTH_EXCEEDED when the
        whole pool cannot hold one of its outputs, INVALID_REQUEST for a guide that is too long,
        and what ended the engine.
        """
        if self._refusal is not None:
            raise self._refusal
        if self._iterations is None or self._model is None:
            raise _failure("The engine has not been started.")
        _check_room(request, self._model.pool_tokens)
        self._check_queue(request.n, self._iterations.snapshot.num_running)
        leader = self._sequence(request, sink)
        if request.guide is None:
            self._post(leader)
        elif self._compilations is not None:
            self._compilations.add(leader, request.guide)
        else:
            raise _no_end_token(request.guide)
        self._submitted_outputs += request.n

    def abort(self, sink: EventSink, keys: Ids[int]) -> None:
        """End outputs after the iteration that is running; they give no more events after it."""
        if self._compilations is not None:
            self._compilations.abort(sink, keys)
        if self._iterations is not None:
            self._iterations.post_abort(sink, tuple(keys))

    async def failed(self) -> ServiceError:
        """Wait for what ended the thread before `stop`. Raises ServiceError before `start`."""
        if self._failure is None:
            raise _failure("The engine has not been started.")
        return await asyncio.shield(self._failure)

    async def stop(self) -> None:
        """End the thread after its current step, fail what is left, and free the KV cache."""
        if self._iterations is None or self._thread is None:
            return
        self._refusal = self._refusal or ServiceError(
            errors_pb2.ERROR_REASON_DRAINING, "The engine is stopping."
        )
        self._iterations.post_stop()
        if self._compilations is not None:
            self._compilations.close(self._refusal)
        await asyncio.to_thread(self._thread.join)
        self._thread = None
        self._abandon(self._iterations, self._refusal)

    @property
    def _queued_outputs(self) -> int:
        if self._iterations is None or self._model is None:
            return 0
        ended = self._compilations.num_ended if self._compilations is not None else 0
        return self._submitted_outputs - self._iterations.snapshot.taken_up - ended

    def _post(self, leader: Sequence, aborted: Ids[int] = ()) -> None:
        if self._iterations is not None:
            self._iterations.post_submit(leader)
            if aborted:
                self._iterations.post_abort(leader.sink, tuple(aborted))

    def _check_queue(self, num_outputs: int, num_running: int) -> None:
        """Outputs for which there is a place do not count: they are about to leave the queue."""
        places = max(self._settings.max_num_sequences - num_running, 0)
        if self._queued_outputs + num_outputs - places > self._settings.max_queued_outputs:
            raise ServiceError(
                errors_pb2.ERROR_REASON_OVERLOADED,
                f"The queue is full: {max(self._queued_outputs - places, 0)} outputs wait, "
                f"max_queued_outputs is {self._settings.max_queued_outputs}.",
                retry_after_seconds=1.0,
            )

    def _sequence(self, request: EngineRequest, sink: EventSink) -> Sequence:
        """The first output, which leads the others."""
        now = time.monotonic()
        seed = request.sampling.seed
        drawn_seed = secrets.randbits(63) if seed is None else seed
        rank = now - request.priority * self._settings.priority_step_seconds
        leader, *followers = (
            Sequence(
                request=request,
                sink=sink,
                key=key,
                seed=drawn_seed,
                rank=(rank, next(self._arrivals)),
                submitted_seconds=now,
                end_token_ids=self.info.end_token_ids,
            )
            for key in request.keys
        )
        leader.lead(followers)
        return leader

    def _run(self, iterations: Iterations, loop: asyncio.AbstractEventLoop) -> None:
        """The thread. Whatever ends it before `stop` becomes every output's failure."""
        try:
            iterations.run()
        except Exception as error:  # noqa: BLE001 (supervisor of the thread)
            _log.exception("engine_failed")
            failure = _failure(f"The engine has failed: {type(error).__name__}.")
            loop.call_soon_threadsafe(self._fail, iterations, failure)

    def _fail(self, iterations: Iterations, failure: ServiceError) -> None:
        self._refusal = self._refusal or failure
        if self._compilations is not None:
            self._compilations.close(failure)
        self._abandon(iterations, failure)
        if self._failure is not None and not self._failure.done():
            self._failure.set_result(failure)

    def _abandon(self, iterations: Iterations, error: ServiceError) -> None:
        """On the loop, when the thread has ended: nothing can be submitted in between."""
        self._model = None
        _deliver(iterations.abandon(error))


def _deliver(events: SinkEvents) -> None:
    for sink, sink_events in events:
        sink.on_events(sink_events)


def _check_room(request: EngineRequest, pool_tokens: int) -> None:
    # The last token of an output is never read, so it needs no place.
    needed = len(request.prompt_token_ids) + request.max_tokens - 1
    if needed > pool_tokens:
        raise ServiceError(
            errors_pb2.ERROR_REASON_CONTEXT_LENGTH_EXCEEDED,
            f"Prompt and max_tokens need room for {needed} tokens; the whole KV cache holds "
            f"{pool_tokens}.",
            "max_tokens",
        )


def _no_end_token(guide: Guide) -> ServiceError:
    return ServiceError(
        errors_pb2.ERROR_REASON_UNSUPPORTED_PARAMETER,
        f"{guide.param} needs a model with an end token.",
        guide.param,
    )


def _failure(message: str) -> ServiceError:
    return ServiceError(errors_pb2.ERROR_REASON_ENGINE_FAILURE, message)

"""The paced engine: deterministic tokens at a set rate, no model; a double, as its name says.

It emulates the seam's contract: batches once per iteration, a queue, prefill time, end tokens,
continuation, abort. Its "model" gives one token all the probability at each position, so that every
sampling option is honoured by doing nothing, and every log probability is 0.
"""

import asyncio
import bisect
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import chain

import structlog

from headrace.common.v1 import errors_pb2
from headrace.common.v1.finish_pb2 import FINISH_REASON_LENGTH, FINISH_REASON_STOP
from headrace.models.directory import ModelDirectory
from headrace.rpc.errors import ServiceError
from worker.engine.paced_settings import PacedSettings
from worker.engine.seam import (
    EndedEvent,
    EngineEvents,
    EngineLoad,
    EngineRequest,
    EventSink,
    ModelInfo,
    StartedEvent,
    TokenLogprob,
)
from worker.request_mapping import OPTIONAL_FIELDS

# " The headrace is the channel that carries water to the turbine. …" in the default model's
# vocabulary; other models say something else with it, as deterministically.
_SENTENCE = (
    *(378, 1680, 11617, 314, 260, 7279, 338, 11046, 913, 288, 260, 18399, 30, 657, 3711, 260, 4626),
    *(2120, 260, 392, 337, 28, 5558, 260, 13761, 282, 260, 13083, 28, 284, 6947, 837, 260, 8656),
    *(6497, 30),
)
_BLOCK_SIZE = 32

_log = structlog.get_logger(__name__)


@dataclass(slots=True)
class _Output:
    """One output: `position` counts its tokens from the answer's start, prefix included."""

    key: int
    request: EngineRequest
    script: Sequence[int]
    end_ids: frozenset[int]
    position: int
    submitted_at: float
    started_at: float = 0.0
    first_token_at: float | None = None
    """When prefill will be over: the first token comes at the first tick after it."""
    has_started: bool = False


def _queue_order(entry: tuple[EventSink, _Output]) -> int:
    """Higher priority first; equals in the order of submission."""
    return -entry[1].request.priority


@dataclass(slots=True, eq=False)
class _SinkGroup:
    """The running outputs of one sink."""

    sink: EventSink
    outputs: dict[int, _Output] = field(default_factory=dict)


class PacedEngine:
    """Implements worker.engine.seam.Engine."""

    def __init__(self, model: ModelDirectory, settings: PacedSettings) -> None:
        self._settings = settings
        self._info = ModelInfo(
            model=model.name,
            engine="paced",
            context_length=model.context_length,
            block_size=_BLOCK_SIZE,
            vocabulary_size=model.vocabulary_size,
            end_token_ids=model.end_token_ids,
            tokenizer_fingerprint=model.tokenizer_fingerprint,
            honoured_fields=frozenset(n for n in OPTIONAL_FIELDS if not n.startswith("guide.")),
            max_logprobs=20,
            max_outputs=128,
            numerics="reproducible",
            system_fingerprint=f"fp_paced_{model.tokenizer_fingerprint[:8]}",
        )
        self._end_token = min(model.end_token_ids, default=0)
        self._sentence = tuple(token_id % model.vocabulary_size for token_id in _SENTENCE)
        self._running: dict[EventSink, _SinkGroup] = {}
        self._num_running = 0
        self._waiting: deque[tuple[EventSink, _Output]] = deque()
        self._prefilled_tokens = 0
        self._wake = asyncio.Event()
        self._ticker: asyncio.Task[None] | None = None
        self._refusal: ServiceError | None = None
        self._failure: asyncio.Future[ServiceError] | None = None

    @property
    def info(self) -> ModelInfo:
        """What it serves."""
        return self._info

    @property
    def load(self) -> EngineLoad:
        """How busy it is; it has no blocks."""
        return EngineLoad(
            queued_outputs=len(self._waiting), prefilled_tokens=self._prefilled_tokens
        )

    async def start(self) -> None:
        """Begin ticking."""
        self._failure = asyncio.get_running_loop().create_future()
        self._ticker = asyncio.create_task(self._tick_for_ever())
        self._ticker.add_done_callback(self._on_ticker_end)

    async def failed(self) -> ServiceError:
        """Wait for what ended the ticking before `stop`: an error in this class or in a sink."""
        if self._failure is None:
            raise _failure("the engine has not been started")
        return await asyncio.shield(self._failure)

    async def stop(self) -> None:
        """Stop ticking and fail what runs."""
        if self._ticker is not None:
            self._ticker.cancel()
            await asyncio.gather(self._ticker, return_exceptions=True)
            self._ticker = None
        draining = ServiceError(errors_pb2.ERROR_REASON_DRAINING, "the engine was stopped")
        self._refusal = self._refusal or draining
        self._end_all(draining)

    def _on_ticker_end(self, ticker: asyncio.Task[None]) -> None:
        if ticker.cancelled() or self._failure is None:
            return
        cause = ticker.exception()
        _log.error("engine_failed", exc_info=cause)
        error = _failure(f"the engine has failed: {type(cause).__name__}")
        self._refusal = error
        self._end_all(error)
        self._failure.set_result(error)

    def _end_all(self, error: ServiceError) -> None:
        for group in list(self._running.values()):
            ended = [EndedEvent(key, error=error) for key in group.outputs]
            group.sink.on_events(EngineEvents(ended=ended))
        for sink, output in self._waiting:
            sink.on_events(EngineEvents(ended=[EndedEvent(output.key, error=error)]))
        self._running.clear()
        self._waiting.clear()
        self._num_running = 0

    def submit(self, request: EngineRequest, sink: EventSink) -> None:
        """Queue all outputs of a request, or refuse it as overloaded."""
        if self._refusal is not None:
            raise self._refusal
        room = self._settings.max_running_outputs - self._num_running
        room += self._settings.max_queued_outputs - len(self._waiting)
        if request.n > room:
            raise ServiceError(
                errors_pb2.ERROR_REASON_OVERLOADED,
                f"the engine's queue is full: {len(self._waiting)} outputs wait, "
                f"max_queued_outputs is {self._settings.max_queued_outputs}",
            )
        now = time.monotonic()
        for key in request.keys:
            output = _Output(
                key=key,
                request=request,
                script=self._script(request),
                end_ids=self._end_ids(request),
                position=len(request.output_prefix_token_ids),
                submitted_at=now,
            )
            bisect.insort(self._waiting, (sink, output), key=_queue_order)
        self._wake.set()

    def abort(self, sink: EventSink, keys: Sequence[int]) -> None:
        """Forget outputs at once; nothing more is said of them."""
        group = self._running.get(sink)
        left = set(keys)
        for key in keys:
            if group is not None and group.outputs.pop(key, None) is not None:
                self._num_running -= 1
                left.discard(key)
        if group is not None and not group.outputs:
            del self._running[sink]
        if left:
            self._waiting = deque(
                (owner, output)
                for owner, output in self._waiting
                if owner is not sink or output.key not in left
            )

    def _script(self, request: EngineRequest) -> Sequence[int]:
        if self._settings.script == "echo":
            return (*request.prompt_token_ids, self._end_token)
        return self._sentence

    def _end_ids(self, request: EngineRequest) -> frozenset[int]:
        own: frozenset[int] = frozenset() if request.ignore_eos else self._info.end_token_ids
        return own | request.stop_token_ids

    async def _tick_for_ever(self) -> None:
        loop = asyncio.get_running_loop()
        interval = 1 / self._settings.tokens_per_second
        due = loop.time()
        while True:
            if not (self._running or self._waiting):
                self._wake.clear()
                await self._wake.wait()
                due = loop.time()
            # A tick that came late does not make the next one late; a second behind is forgiven.
            due = max(due + interval, loop.time() - 1.0)
            await asyncio.sleep(max(0.0, due - loop.time()))
            # Not the loop's own time, which may be as old as the turn.
            now = time.monotonic()
            self._admit(now)
            self._tick(now)

    def _admit(self, now: float) -> None:
        while self._waiting and self._num_running < self._settings.max_running_outputs:
            sink, output = self._waiting.popleft()
            num_prompt = len(output.request.prompt_token_ids)
            output.started_at = now
            output.request.progress.fed(now)
            output.first_token_at = now + num_prompt / self._settings.prefill_tokens_per_second
            self._prefilled_tokens += num_prompt
            self._num_running += 1
            group = self._running.setdefault(sink, _SinkGroup(sink))
            group.outputs[output.key] = output

    def _tick(self, now: float) -> None:
        for group in list(self._running.values()):
            events = EngineEvents()
            for output in list(group.outputs.values()):
                if output.has_started or self._start(output, events, now):
                    self._step(group, output, events, now)
            if not group.outputs:
                del self._running[group.sink]
            if events.keys:
                group.sink.on_events(events)

    def _start(self, output: _Output, events: EngineEvents, now: float) -> bool:
        if output.first_token_at is None or now < output.first_token_at:
            return False
        output.has_started = True
        output.first_token_at = now
        output.request.progress.first_token(now)
        events.started.append(
            StartedEvent(
                key=output.key,
                prompt_tokens=len(output.request.prompt_token_ids),
                cached_prompt_tokens=0,
                queue_ms=round((output.started_at - output.submitted_at) * 1000),
                prefill_ms=round((now - output.started_at) * 1000),
            )
        )
        return True

    def _step(self, group: _SinkGroup, output: _Output, events: EngineEvents, now: float) -> None:
        request = output.request
        token_id = output.script[output.position % len(output.script)]
        is_end = token_id in output.end_ids
        if is_end and output.position < request.min_tokens:
            token_id, is_end = self._unending(output), False
        output.position += 1
        request.progress.num_output_tokens += 1
        events.keys.append(output.key)
        events.counts.append(1)
        events.token_ids.append(token_id)
        if request.logprobs is not None:
            top = ((token_id, 0.0),) if request.logprobs else ()
            events.logprobs[output.key] = [TokenLogprob(0.0, top)]
        if is_end or output.position >= request.max_tokens:
            events.ended.append(self._ended(output, token_id if is_end else None, now))
            del group.outputs[output.key]
            self._num_running -= 1

    def _unending(self, output: _Output) -> int:
        others = chain(self._sentence, range(self._info.vocabulary_size))
        return next((token for token in others if token not in output.end_ids), 0)

    def _ended(self, output: _Output, stop_token_id: int | None, now: float) -> EndedEvent:
        first = now if output.first_token_at is None else output.first_token_at
        output.request.progress.last_token_at = now
        return EndedEvent(
            key=output.key,
            finish_reason=FINISH_REASON_LENGTH if stop_token_id is None else FINISH_REASON_STOP,
            stop_token_id=stop_token_id,
            decode_ms=round((now - first) * 1000),
            num_output_tokens=output.position - len(output.request.output_prefix_token_ids),
        )


def _failure(message: str) -> ServiceError:
    return ServiceError(errors_pb2.ERROR_REASON_ENGINE_FAILURE, message)

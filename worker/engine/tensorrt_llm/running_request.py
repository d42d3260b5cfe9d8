"""One request: while it waits, and while the library has it and its result is stepped.

A result is stepped by one task, for as long as the library may answer. Who lost interest in all
outputs does not end the task: the place is taken until the library says so, or is silent.
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from worker.engine.seam import EndedEvent, EngineRequest, EventSink, StartedEvent
from worker.engine.tensorrt_llm.cursor import CursorEnd, Delta, OutputCursor
from worker.engine.tensorrt_llm.library import RequestOutput
from worker.engine.tensorrt_llm.outbox import Outbox, SinkBatch
from worker.engine.tensorrt_llm.sampling_arguments import EndTokens, is_fanned_out

_GONE = (AssertionError, AttributeError, ReferenceError, RuntimeError)
"""What an abort raises when the executor is no longer there."""


@dataclass(slots=True, eq=False)
class QueuedRequest:
    """A request that was taken; times in seconds of `time.monotonic`.

    `rank` orders the queue, lowest first. `open_keys` are the outputs that somebody waits for.
    """

    request: EngineRequest
    sink: EventSink
    submitted_at: float
    rank: tuple[float, int]
    open_keys: set[int] = field(init=False)

    def __post_init__(self) -> None:
        self.open_keys = set(self.request.keys)


@dataclass(slots=True)
class StepCounts:
    """What steps of all requests add up to."""

    prefilled_tokens: int = 0


class RunningRequest:
    """A request that was handed to the library; `run` is its task's coroutine."""

    def __init__(
        self,
        queued: QueuedRequest,
        result: RequestOutput,
        ends: EndTokens,
        outbox: Outbox,
        counts: StepCounts,
    ) -> None:
        self.queued = queued
        self.is_aborted = False
        self.task: asyncio.Task[None] | None = None
        self._request = queued.request
        self._result = result
        self._outbox = outbox
        self._counts = counts
        self._handed_at = time.monotonic()
        self._first_at: dict[int, float] = {}
        queued.request.progress.fed(self._handed_at)
        self._is_fanned_out = is_fanned_out(queued.request)
        outputs = 1 if self._is_fanned_out else queued.request.n
        self._cursors = {index: OutputCursor(queued.request, ends) for index in range(outputs)}
        self.has_answered = False
        """The library computes it, or has: it does not wait inside."""

    @property
    def is_live(self) -> bool:
        """Somebody waits for an output of it."""
        return bool(self.queued.open_keys)

    @property
    def is_finished(self) -> bool:
        """The library has given its last response."""
        return self._result.finished

    async def run(self, on_step: Callable[["RunningRequest"], None]) -> None:
        """Step the result to its end; `on_step` is called after each response.

        Outputs that are still open then never had a final response. Raises what the library raises;
        the result must not be stepped again after that.
        """
        turn = -1
        while not self._result.finished:
            try:
                await self._result.__anext__()
            except StopAsyncIteration:
                break
            if turn == self._outbox.turn and len(self._cursors) == 1:
                # Late: the next iteration is here already. Each is told by itself.
                await asyncio.sleep(0)
            self._take()
            turn = self._outbox.turn
            on_step(self)

    def abort(self) -> None:
        """Tell the library; it may answer, or be silent for ever."""
        self.is_aborted = True
        try:
            self._result.abort()
        except _GONE:
            # It is as aborted as it can be; what ended the executor shows elsewhere.
            return

    def _take(self) -> None:
        """Copy what the result holds now: at the next step it is another."""
        if not self.has_answered:
            self.has_answered = True
            given = self._request.num_given_tokens
            self._counts.prefilled_tokens += given - min(self._result.cached_tokens, given - 1)
        if not self.is_live:
            return
        is_finished = self._result.finished
        for output in self._result.outputs:
            cursor = self._cursors.get(output.index)
            if cursor is None:
                continue
            delta = cursor.step(output, is_finished=is_finished)
            if delta.token_ids or delta.end is not None:
                self._emit(output.index, delta)
                if delta.end is not None:
                    del self._cursors[output.index]

    def _emit(self, index: int, delta: Delta) -> None:
        batch = self._outbox.batch(self.queued.sink)
        for key in self._keys(index):
            if key not in self._first_at:
                now = self._first_at[key] = time.monotonic()
                self._request.progress.first_token(now)
                batch.started.append(self._started(key, now))
            if delta.token_ids:
                batch.add_tokens(key, delta)
                self._request.progress.num_output_tokens += len(delta.token_ids)
            if delta.end is not None:
                self._close(key, delta.end, index, batch)

    def _keys(self, index: int) -> list[int]:
        """Open outputs that an output of the result stands for."""
        if self._is_fanned_out:
            return sorted(self.queued.open_keys)
        key = self._request.first_key + index
        return [key] if key in self.queued.open_keys else []

    def _close(self, key: int, end: CursorEnd, index: int, batch: SinkBatch) -> None:
        self.queued.open_keys.discard(key)
        now = time.monotonic()
        if end.error is None:
            self._request.progress.last_token_at = now
        batch.ended.append(
            EndedEvent(
                key=key,
                finish_reason=end.finish_reason,
                error=end.error,
                stop_token_id=end.stop_token_id,
                decode_ms=_milliseconds(now - self._first_at[key]),
                num_output_tokens=self._cursors[index].num_sent,
            )
        )

    def _started(self, key: int, now: float) -> StartedEvent:
        """Times are those seen from here: the library's own queue is part of its prefill."""
        num_prompt = len(self._request.prompt_token_ids)
        is_copy = self._is_fanned_out and key != self._request.first_key
        cached = num_prompt if is_copy else self._result.cached_tokens
        return StartedEvent(
            key=key,
            prompt_tokens=num_prompt,
            cached_prompt_tokens=max(min(cached, num_prompt - 1), 0),
            queue_ms=_milliseconds(self._handed_at - self.queued.submitted_at),
            prefill_ms=_milliseconds(now - self._handed_at),
        )

    def num_sent(self, key: int) -> int:
        """Ids given out for an output that has not ended."""
        index = 0 if self._is_fanned_out else key - self._request.first_key
        cursor = self._cursors.get(index)
        return cursor.num_sent if cursor is not None else 0


def _milliseconds(seconds: float) -> int:
    return round(max(seconds, 0.0) * 1000)

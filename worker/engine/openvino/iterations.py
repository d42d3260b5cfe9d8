"""The engine's thread: commands in, a step of the model, events out, again and again.

All state here belongs to the thread that is in `run`; before it starts and after it has ended, to
the loop. From elsewhere only `post_…` may be called, which put a command into the mailbox, and
`snapshot` be read, which is replaced as a whole once an iteration.
"""

import time
from collections.abc import Callable
from collections.abc import Sequence as Ids
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from queue import Empty, SimpleQueue

from headrace.common.v1 import errors_pb2
from headrace.rpc.errors import ServiceError
from worker.engine.openvino.candidates import FloatArray
from worker.engine.openvino.events import IterationEvents, SinkEvents
from worker.engine.openvino.guide_grammar import in_words, unusable_guide
from worker.engine.openvino.logprobs import token_logprob
from worker.engine.openvino.model import LoadedModel
from worker.engine.openvino.runner import Feed
from worker.engine.openvino.scheduler import Chunk
from worker.engine.openvino.sequence import Sequence
from worker.engine.seam import EngineLoad, EventSink

Command = Callable[[], None]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The engine between two iterations. `taken_up` outputs have left the queue since the start."""

    load: EngineLoad
    num_running: int
    taken_up: int


class Iterations:
    """Generates for all sequences that it is given; `deliver` takes each iteration's events."""

    def __init__(self, model: LoadedModel, deliver: Callable[[SinkEvents], None]) -> None:
        self._model = model
        self._scheduler = model.scheduler
        self._deliver = deliver
        self._mailbox: SimpleQueue[Command] = SimpleQueue()
        self._sequences: dict[tuple[int, int], Sequence] = {}
        self._events = IterationEvents()
        self._is_stopping = False
        self._is_abandoned = False
        self._prefilled_tokens = 0
        self._masks = ThreadPoolExecutor(1, "guide-masks")
        self.snapshot = self._take_snapshot()

    def post_submit(self, sequence: Sequence) -> None:
        """Queue a sequence and its followers."""
        self._mailbox.put(partial(self._add, sequence))

    def post_abort(self, sink: EventSink, keys: Ids[int]) -> None:
        """End outputs without another event; unknown and ended ones are ignored."""
        self._mailbox.put(partial(self._abort, sink, keys))

    def post_stop(self) -> None:
        """Let `run` return before its next step."""
        self._mailbox.put(self._stop)

    def run(self) -> None:
        """Iterate until `post_stop`, then free the KV cache. Raises whatever the model raises."""
        try:
            while not self._is_stopping:
                self._take_commands(wait=not self._scheduler.has_work)
                chunks = [] if self._is_stopping else self._scheduler.schedule(time.monotonic())
                if chunks:
                    self._step(chunks)
                elif self._scheduler.has_work and not self._is_stopping:
                    raise RuntimeError("sequences wait, none runs, and none can be let in")
                self._end_iteration()
        finally:
            self._masks.shutdown()
            self._model.runner.close()

    def abandon(self, error: ServiceError) -> SinkEvents:
        """After `run`: the events that fail every output, those in the mailbox included.

        The pool is gone then, and so are its blocks from the snapshot. The scheduler is not asked
        any more: it may be what failed.
        """
        self._is_abandoned = True
        self._take_commands(wait=False)
        now = time.monotonic()
        for sequence in self._sequences.values():
            self._events.add_end(sequence, now, error=error)
        self._sequences.clear()
        load = EngineLoad(
            evicted_blocks=self._model.pool.evictions,
            preemptions=self._scheduler.preemptions,
            prefilled_tokens=self._prefilled_tokens,
        )
        self.snapshot = Snapshot(load, num_running=0, taken_up=self._scheduler.taken_up)
        return self._events.take()

    def _add(self, sequence: Sequence) -> None:
        for output in (sequence, *sequence.followers):
            self._sequences[id(output.sink), output.key] = output
        if not self._is_abandoned:
            self._scheduler.add(sequence)

    def _abort(self, sink: EventSink, keys: Ids[int]) -> None:
        for key in keys:
            sequence = self._sequences.get((id(sink), key))
            if sequence is not None:
                self._remove(sequence)

    def _stop(self) -> None:
        self._is_stopping = True

    def _take_commands(self, *, wait: bool) -> None:
        """Carry out all commands that are there; with `wait`, at least one."""
        try:
            if wait:
                self._mailbox.get()()
            while True:
                self._mailbox.get_nowait()()
        except Empty:
            return

    def _step(self, chunks: list[Chunk]) -> None:
        decoding = sum(chunk.sequence.is_decoding for chunk in chunks)
        prefilling = sum(c.num_tokens for c in chunks if not c.sequence.is_decoding)
        self._begin_masks(chunks)
        begin = time.perf_counter()
        logits = self._model.runner.run([_feed(chunk) for chunk in chunks])
        self._model.speed.observe(decoding, prefilling, time.perf_counter() - begin)
        self._prefilled_tokens += prefilling
        self._scheduler.commit(chunks)
        # Aborts that came during the step end here, so that their blocks are free after it.
        self._take_commands(wait=False)
        self._draw(logits, [chunk.sequence for chunk in chunks if chunk.is_last])

    def _begin_masks(self, chunks: list[Chunk]) -> None:
        """Find out what guides allow next while the model computes."""
        for chunk in chunks:
            for sequence in (chunk.sequence, *chunk.sequence.followers):
                if chunk.is_last and sequence.matcher is not None:
                    sequence.allowed = self._masks.submit(sequence.matcher.allowed)

    def _draw(self, logits: FloatArray, read: Ids[Sequence]) -> None:
        """Draw a token for each output that was `read` to its end, and for those that fork now."""
        rows, drawing = self._with_forks(read)
        if rows != list(range(len(read))):
            logits = logits[rows]
        drawn = self._model.sampler.sample(logits, [sequence.draw() for sequence in drawing])
        now = time.monotonic()
        for row, sequence, token_id in zip(logits, drawing, drawn, strict=True):
            self._advance(sequence, row, token_id, now)

    def _with_forks(self, read: Ids[Sequence]) -> tuple[list[int], list[Sequence]]:
        """The outputs to draw for and each one's row; aborted ones are left out."""
        rows: list[int] = []
        drawing: list[Sequence] = []
        for row, sequence in enumerate(read):
            if sequence.is_ended:
                continue
            forks = self._scheduler.fork(sequence) if sequence.followers else []
            for fork in forks:
                if fork.copied is not None:
                    self._model.runner.copy_block(*fork.copied)
            rows += [row] * (1 + len(forks))
            drawing += [sequence, *(fork.sequence for fork in forks)]
        return rows, drawing

    def _advance(
        self, sequence: Sequence, row: FloatArray, token_id: int | None, now: float
    ) -> None:
        if token_id is None:
            self._end(sequence, now, error=_no_token(sequence))
            return
        sequence.append(token_id)
        asked = sequence.request.logprobs
        logprob = None if asked is None else token_logprob(row, token_id, asked)
        self._events.add_token(sequence, token_id, logprob, now)
        if token_id in sequence.stop_token_ids:
            self._end(sequence, now, stop_token_id=token_id)
        elif sequence.num_output_tokens >= sequence.request.max_tokens:
            self._end(sequence, now)
        elif sequence.matcher is not None and not sequence.matcher.consume([token_id]):
            self._end(sequence, now, error=_no_token(sequence))

    def _end(
        self,
        sequence: Sequence,
        now: float,
        *,
        error: ServiceError | None = None,
        stop_token_id: int | None = None,
    ) -> None:
        self._remove(sequence)
        self._events.add_end(sequence, now, error=error, stop_token_id=stop_token_id)

    def _remove(self, sequence: Sequence) -> None:
        del self._sequences[id(sequence.sink), sequence.key]
        if not self._is_abandoned:
            self._scheduler.remove(sequence)
        sequence.is_ended = True

    def _end_iteration(self) -> None:
        # The snapshot first: who sees an output's end also sees its blocks free.
        self.snapshot = self._take_snapshot()
        events = self._events.take()
        if events:
            self._deliver(events)

    def _take_snapshot(self) -> Snapshot:
        pool = self._model.pool
        load = EngineLoad(
            total_blocks=pool.total_blocks,
            free_blocks=pool.free_blocks,
            cached_blocks=pool.cached_blocks,
            referenced_blocks=pool.referenced_blocks,
            evicted_blocks=pool.evictions,
            preemptions=self._scheduler.preemptions,
            prefilled_tokens=self._prefilled_tokens,
        )
        return Snapshot(load, self._scheduler.num_running, self._scheduler.taken_up)


def _no_token(sequence: Sequence) -> ServiceError:
    """Nothing can be drawn: the guide's fault, or the model's."""
    problem = sequence.matcher.problem if sequence.matcher is not None else ""
    if problem and sequence.request.guide is not None:
        return unusable_guide(sequence.request.guide, in_words(problem))
    return ServiceError(
        errors_pb2.ERROR_REASON_ENGINE_FAILURE,
        f"The model gave no finite logits for output token {sequence.num_output_tokens}.",
    )


def _feed(chunk: Chunk) -> Feed:
    sequence = chunk.sequence
    past = sequence.num_computed_tokens
    return Feed(
        token_ids=sequence.token_ids[past : past + chunk.num_tokens],
        num_past_tokens=past,
        block_ids=sequence.block_ids,
        is_sampled=chunk.is_last,
    )

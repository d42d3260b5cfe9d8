"""One running request: its outputs on workers and tokenizers, and how they go on after a loss.

Owner of everything that the request has open: handles on both links and the deadline's timer; all
of it is released in `_release`, whichever way the request ends.

What is lost goes on elsewhere behind what the client may have read already: an output without its
tokenizer is opened at another one with the ids that are known; one without its worker is submitted
to another one with them as its prefix, and its tokenizer stays. Where a worker cannot go on behind
a prefix, the request begins anew if nothing of it was delivered.
"""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import replace

from headrace.client.answers import (
    AnswerConsumer,
    AnswerTimeline,
    AnswerTimes,
    AnswerUsage,
    GenerationOptions,
    OutputResult,
    RenderedPrompt,
)
from headrace.client.attempt_output import AttemptOutput
from headrace.client.attempt_spans import AttemptSpans
from headrace.client.finish import finish_reason, terminal_error
from headrace.client.placement import Placement
from headrace.client.requests import (
    continued,
    detokenize_open,
    generation_request,
    reached_end,
)
from headrace.client.setbacks import (
    Setback,
    Setbacks,
    cannot_continue,
    is_movable,
    may_reopen,
    peer_lost,
)
from headrace.client.span_ends import cancelled
from headrace.client.worker_link import WorkerLink
from headrace.common.v1 import errors_pb2
from headrace.common.v1.finish_pb2 import FINISH_REASON_LENGTH, FINISH_REASON_STOP, FinishReason
from headrace.rpc.errors import ServiceError
from headrace.rpc.frame_stream import FrameViolationError
from headrace.worker.v1.generation_pb2 import Started, Terminal

_PREFIX = "output_prefix_token_ids"
_TOLD = frozenset({errors_pb2.ERROR_REASON_DEADLINE_EXCEEDED, errors_pb2.ERROR_REASON_SLOW_READER})
"""Why an output ends, as far as its worker is told."""
_UNWANTED = errors_pb2.ERROR_REASON_CLIENT_CANCELLED
_KNOWN_REASONS = frozenset({FINISH_REASON_STOP, FINISH_REASON_LENGTH})


class RunningGeneration:
    """A request from submission to its end; implements `Generation` and `WorkerListener`."""

    def __init__(
        self,
        placement: Placement,
        prompt: RenderedPrompt,
        options: GenerationOptions,
        consumer: AnswerConsumer,
    ) -> None:
        self._placement = placement
        self._prompt = prompt
        self._options = options
        self._consumer = consumer
        n = options.n
        self._usage = AnswerUsage(len(prompt.token_ids), 0, [0] * n, [0] * n)
        self._open: dict[int, AttemptOutput] = {}  # by their handles at workers
        self._is_over = False
        self._context_length = 0
        self._setbacks = Setbacks()
        self._spans = AttemptSpans(placement.tracing, options)
        self.timeline = AnswerTimeline()
        self._deadline: asyncio.TimerHandle | None = None
        if options.deadline is not None:
            loop = asyncio.get_running_loop()
            self._deadline = loop.call_at(options.deadline, self._on_deadline)

    @property
    def has_logprobs(self) -> bool:
        """Whether log probabilities were asked for."""
        return self._options.logprobs is not None

    @property
    def has_events(self) -> bool:
        """Whether the answer comes as events and not as plain text."""
        return self._prompt.has_events

    @property
    def usage(self) -> AnswerUsage:
        """Tokens so far."""
        for output in self._open.values():
            self._count(output)
        return self._usage

    def _count(self, output: AttemptOutput) -> None:
        self._usage.completion_tokens[output.index] = output.consumed_tokens
        self._usage.reasoning_tokens[output.index] = output.reasoning_tokens

    def start(self) -> None:
        """Place the request and send it. Raises ServiceError; then nothing is open."""
        try:
            self._attempt(frozenset())
        except ServiceError as error:
            self._release(error)
            raise

    def abort(self, why: ServiceError | None = None) -> None:
        """End it now; the consumer hears nothing more."""
        if not self._is_over:
            self._release(why or cancelled())

    def _attempt(self, avoided: frozenset[WorkerLink]) -> None:
        """Begin all outputs."""
        worker = self._placement.place_worker(self._prompt, avoided)
        tokenizer = self._placement.place_tokenizer(self._prompt)
        self._context_length = worker.models[self._prompt.model].context_length
        self.timeline = AnswerTimeline(self.timeline.attempts + 1)
        n = self._options.n
        attempt = self._spans.begin(worker.address, self.timeline.attempts, n)
        first = self._placement.next_handles(n)
        for index in range(n):
            handle = first + index
            output = AttemptOutput(self, index, handle, (worker, tokenizer), self._consumer)
            output.join(attempt)
            self._open[handle] = output
            tokenizer.open(detokenize_open(handle, self._prompt, self._options), output)
        loop = asyncio.get_running_loop()
        request = generation_request(self._prompt, self._options, attempt.context, loop)
        worker.submit(first, request, self)

    def on_worker_started(self, started: Started) -> None:
        """Tell the consumer, once an attempt that begins at the answer's beginning."""
        output = self._open.get(started.handle)
        if output is not None:
            output.started(started.cached_prompt_tokens)
        if self.timeline.started is not None:
            return
        self.timeline.started = time.monotonic()
        self._usage.cached_prompt_tokens = started.cached_prompt_tokens
        self._consumer.on_started(
            AnswerTimes(
                prompt_tokens=started.prompt_tokens,
                cached_prompt_tokens=started.cached_prompt_tokens,
                queue_ms=started.queue_ms,
                prefill_ms=started.prefill_ms,
            )
        )

    def on_first_text(self) -> None:
        """Keep the time of the attempt's first text."""
        if self.timeline.first_text is None:
            self.timeline.first_text = time.monotonic()

    def on_worker_terminal(self, terminal: Terminal) -> None:
        """Close the output's text, or go on elsewhere, or fail the request."""
        output = self._open.get(terminal.handle)
        if output is None:
            return
        if terminal.finish_reason in _KNOWN_REASONS:
            self._close_text(output, terminal.finish_reason)
            return
        error = terminal_error(terminal)
        if output.is_continued and cannot_continue(error):
            self._begin_anew(self._setbacks.last or Setback(error))
        elif is_movable(error):
            self._on_refused(output, error)
        else:
            self.fail(error)

    def _close_text(self, output: AttemptOutput, reason: "FinishReason.ValueType") -> None:
        """The worker has ended an output: what its tokenizer holds back is still to come."""
        self.timeline.worker_ended = time.monotonic()
        output.worker_reason = reason
        output.tokenizer.finish(output.handle, reason)

    def is_current(self, output: AttemptOutput) -> bool:
        """Whether an output belongs to the attempt that runs now."""
        return self._open.get(output.worker_handle) is output

    def output_stopped(self, output: AttemptOutput, stop_index: int) -> None:
        """A stop string ended an output: the worker need not go on."""
        stop_strings = self._options.stop_strings
        if stop_index >= len(stop_strings):
            raise FrameViolationError(
                f"the tokenizer named stop string {stop_index} of {len(stop_strings)}"
            )
        if output.worker is not None:
            output.worker.abort([output.worker_handle], errors_pb2.ERROR_REASON_UNSPECIFIED)
        if not output.worker_reason:
            # Otherwise it is being closed already, and the tokenizer answers that.
            output.tokenizer.abandon(output.handle)
        self.timeline.worker_ended = time.monotonic()
        self._finish(output, stop_strings[stop_index])

    def output_closed(self, output: AttemptOutput) -> None:
        """The worker's end, with all text out."""
        self._finish(output, None)

    def _finish(self, output: AttemptOutput, stop_string: str | None) -> None:
        if output.events is not None and self.is_current(output):
            output.events.finish(output.released_tokens)
        if self._open.pop(output.worker_handle, None) is None:
            return
        output.leave_attempt(None)
        self._forget(output)
        self._count(output)
        reason = finish_reason(stop_string_hit=stop_string is not None, worker=output.worker_reason)
        result = OutputResult(reason, output.consumed_tokens, stop_string, output.reasoning_tokens)
        self._consumer.on_finish(output.index, result)
        if not (self._open or self._is_over):
            self._release(None)
            self._consumer.on_done()

    def on_worker_lost(self, handles: Sequence[int], *, is_crash: bool) -> None:
        """A worker is gone: its outputs go on elsewhere, or the request fails."""
        outputs = [self._open[handle] for handle in handles if handle in self._open]
        for output in outputs:
            output.leave_worker()
        # What it has ended lacks nothing but its last text.
        running = [output for output in outputs if not output.worker_reason]
        if not running:
            return
        self._move(running, self._setbacks.worker_lost(is_crash=is_crash))

    def _on_refused(self, output: AttemptOutput, error: ServiceError) -> None:
        """A worker did not take an output, or gave it up; another one may, once."""
        if output.worker is None:
            return
        setback = Setback(error, refused_by=output.worker)
        outputs = list(self._open.values())
        if not self._is_untouched(outputs):
            # What it gives up of its own it has not refused to go on with.
            output.num_refusals += bool(output.num_moves)
            output.leave_worker()
            outputs = [output]
        self._move(outputs, setback)

    def _is_untouched(self, outputs: Sequence[AttemptOutput]) -> bool:
        """Whether these are all of the request's outputs, of which no worker has said anything."""
        is_whole = len(outputs) == self._options.n
        return is_whole and not any(output.known_token_ids for output in outputs)

    def _move(self, outputs: Sequence[AttemptOutput], setback: Setback) -> None:
        """Have outputs generated elsewhere, as far as that is wanted, else fail."""
        if not self._setbacks.admit_move(outputs, setback):
            self.fail(setback.error)
        elif self._is_untouched(outputs):
            self._begin_anew(setback)
        else:
            self._continue(outputs, setback)

    def _begin_anew(self, setback: Setback) -> None:
        """Forget all that was said, unless the client has some of it."""
        error = setback.error
        if self._consumer.has_delivered or not self._setbacks.admit_anew(setback):
            self.fail(error)
            return
        self._close_outputs(error)
        try:
            self._attempt(setback.avoided)
        except ServiceError as second:
            self._close_outputs(second)
            # Where to go there is nowhere: what ended the first attempt is the truth.
            self.fail(error)
        else:
            self._placement.count_retry(error)

    def _continue(self, outputs: Sequence[AttemptOutput], setback: Setback) -> None:
        error = setback.error
        for output in outputs:
            output.leave_attempt(error)
        outputs = [output for output in outputs if not self._was_complete(output)]
        if not outputs:
            return
        try:
            worker = self._placement.place_worker(self._prompt, setback.avoided)
        except ServiceError:
            self.fail(error)
            return
        info = worker.models[self._prompt.model]
        if _PREFIX not in info.honoured_fields:
            self._begin_anew(setback)
            return
        self._placement.count_retry(error)
        attempts = self.timeline.attempts + 1
        self.timeline = replace(self.timeline, attempts=attempts, worker_ended=None)
        attempt = self._spans.begin(worker.address, attempts, len(outputs))
        loop = asyncio.get_running_loop()
        for output in outputs:
            request = generation_request(self._prompt, self._options, attempt.context, loop)
            token_ids = output.known_token_ids
            handle = self._placement.next_handles(1)
            self._seat(output, worker, handle)
            output.join(attempt)
            try:
                worker.submit(handle, continued(request, output.index, token_ids), self)
            except ServiceError as refused:
                self.fail(refused)
                return

    def _was_complete(self, output: AttemptOutput) -> bool:
        """Whether an output lacks nothing but its worker's word for it; then it is closed."""
        token_ids = output.known_token_ids
        end = reached_end(token_ids, self._prompt, self._options, self._context_length)
        if end:
            self._close_text(output, end)
        return bool(end)

    def _seat(self, output: AttemptOutput, worker: WorkerLink, handle: int) -> None:
        """Have an output's tokens come from another worker."""
        del self._open[output.worker_handle]
        self._placement.unroute(output.worker_handle)
        output.sit_at(worker, handle)
        self._open[handle] = output
        self._placement.route(handle, output.handle)

    def on_tokenizer_lost(self, output: AttemptOutput, *, is_crash: bool) -> None:
        """An output's tokenizer is gone: go on at another one, or fail, as with workers."""
        self._reopen(output, peer_lost(output.num_tokenizer_crashes, is_crash=is_crash))

    def on_text_failure(self, output: AttemptOutput, error: ServiceError) -> None:
        """The tokenizer failed an output; one that shuts down may be replaced."""
        if error.reason == errors_pb2.ERROR_REASON_DRAINING:
            self._reopen(output, error)
        else:
            self.fail(error)

    def _reopen(self, output: AttemptOutput, error: ServiceError) -> None:
        """Have an output's text made elsewhere; its worker goes on."""
        if not may_reopen(output, error):
            self.fail(error)
            return
        try:
            tokenizer = self._placement.place_tokenizer(self._prompt)
            handle = self._placement.next_handles(1)
            output.reopen(tokenizer, detokenize_open(handle, self._prompt, self._options))
        except ServiceError:
            self.fail(error)
        else:
            self._placement.count_retry(error)
            self._placement.route(output.worker_handle, output.handle)

    def fail(self, error: ServiceError) -> None:
        """End the request with an error; the consumer hears it once."""
        self._release(error)
        self._consumer.on_error(error)

    def _on_deadline(self) -> None:
        self.fail(
            ServiceError(
                errors_pb2.ERROR_REASON_DEADLINE_EXCEEDED,
                "The request's time ran out before the answer was complete.",
            )
        )

    def _close_outputs(self, error: ServiceError | None) -> None:
        outputs, self._open = list(self._open.values()), {}
        seats: dict[WorkerLink, list[int]] = {}
        for output in outputs:
            if output.worker is not None:
                seats.setdefault(output.worker, []).append(output.worker_handle)
        # Whatever else went wrong is not the worker's: its caller does not want it any more.
        why = error.reason if error is not None and error.reason in _TOLD else _UNWANTED
        for worker, handles in seats.items():
            worker.abort(handles, why)
        for output in outputs:
            output.tokenizer.abandon(output.handle)
            output.leave_attempt(error)
            self._count(output)
            self._forget(output)

    def _forget(self, output: AttemptOutput) -> None:
        """An output is over: nobody asks for its tokens any more."""
        if output.worker is not None:
            output.worker.release(output.worker_handle)
        self._placement.unroute(output.worker_handle)

    def _release(self, error: ServiceError | None) -> None:
        self._is_over = True
        self.timeline.ended = time.monotonic()
        self._close_outputs(error)
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

"""One running request: its outputs on a worker and a tokenizer, its loss, and its retry.

Owner of everything that the request has open: handles on both links and the deadline's timer; all
of it is released in `_release`, whichever way the request ends.
"""

import asyncio
import time
from typing import Protocol

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
from headrace.client.finish import finish_reason
from headrace.client.requests import detokenize_open, generation_request
from headrace.client.span_ends import cancelled
from headrace.client.tokenizer_link import TokenizerLink
from headrace.client.worker_link import WorkerLink
from headrace.common.v1 import errors_pb2
from headrace.common.v1.finish_pb2 import FINISH_REASON_LENGTH, FINISH_REASON_STOP
from headrace.rpc.errors import ServiceError, error_from_failure
from headrace.rpc.frame_stream import FrameViolationError
from headrace.telemetry.spans import Tracing
from headrace.worker.v1.generation_pb2 import Started, Terminal

_MOVABLE = frozenset({errors_pb2.ERROR_REASON_DRAINING, errors_pb2.ERROR_REASON_OVERLOADED})
"""A worker's refusals that another worker need not share."""


_LATE = errors_pb2.ERROR_REASON_DEADLINE_EXCEEDED
_UNWANTED = errors_pb2.ERROR_REASON_CLIENT_CANCELLED
_KNOWN_REASONS = frozenset({FINISH_REASON_STOP, FINISH_REASON_LENGTH})


def _lost(*, is_final: bool = False) -> ServiceError:
    return ServiceError(
        errors_pb2.ERROR_REASON_WORKER_LOST,
        "The server that was generating this answer was lost.",
        is_final=is_final,
    )


def _terminal_error(terminal: Terminal) -> ServiceError:
    """What a terminal says that is no known end."""
    if terminal.HasField("failure"):
        return error_from_failure(terminal.failure)
    return ServiceError(
        errors_pb2.ERROR_REASON_ENGINE_FAILURE,
        f"The worker ended the answer for a reason that is not known here: "
        f"{terminal.finish_reason}.",
    )


class Placement(Protocol):
    """Chooses where a request goes."""

    @property
    def tracing(self) -> Tracing:
        """Makes the spans of attempts."""

    def count_retry(self, error: ServiceError) -> None:
        """A request is tried once more because of `error`."""

    def place(
        self, prompt: RenderedPrompt, avoided: frozenset[WorkerLink]
    ) -> tuple[WorkerLink, TokenizerLink]:
        """A worker that is not avoided, and a tokenizer; raises ServiceError when there is none."""

    def next_handles(self, count: int) -> int:
        """The first of `count` new handles."""


class RunningGeneration:
    """A request from submission to its end; implements `Generation` and `WorkerListener`.

    At most two attempts: a request that has delivered nothing is tried once more elsewhere when its
    worker or tokenizer is lost, or when the worker refuses what another may take.
    """

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
        self._open: dict[int, AttemptOutput] = {}
        self._worker: WorkerLink | None = None
        self._tokenizer: TokenizerLink | None = None
        self._avoided: frozenset[WorkerLink] = frozenset()
        self._was_retried = self._is_over = False
        self._num_lost_workers = 0
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
            self._attempt()
        except ServiceError as error:
            self._release(error)
            raise

    def abort(self, why: ServiceError | None = None) -> None:
        """End it now; the consumer hears nothing more."""
        if not self._is_over:
            self._release(why or cancelled())

    def _attempt(self) -> None:
        worker, tokenizer = self._placement.place(self._prompt, self._avoided)
        self._worker, self._tokenizer = worker, tokenizer
        self.timeline = AnswerTimeline(self.timeline.attempts + 1)
        trace = self._spans.begin(worker.address, self.timeline.attempts)
        first = self._placement.next_handles(self._options.n)
        for index in range(self._options.n):
            output = AttemptOutput(self, index, first + index, self._consumer)
            self._open[output.handle] = output
            tokenizer.open(detokenize_open(output.handle, self._prompt, self._options), output)
        loop = asyncio.get_running_loop()
        worker.submit(first, generation_request(self._prompt, self._options, trace, loop), self)

    def on_worker_started(self, started: Started) -> None:
        """Tell the consumer, once an attempt."""
        if self.timeline.started is not None:
            return
        self.timeline.started = time.monotonic()
        self._usage.cached_prompt_tokens = started.cached_prompt_tokens
        self._spans.started(started.cached_prompt_tokens)
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
        """Close the output's text, or fail the request."""
        output = self._open.get(terminal.handle)
        if output is None:
            return
        if terminal.finish_reason in _KNOWN_REASONS and self._tokenizer is not None:
            self.timeline.worker_ended = time.monotonic()
            output.worker_reason = terminal.finish_reason
            self._tokenizer.finish(output.handle, terminal.finish_reason)
            return
        error = _terminal_error(terminal)
        if error.reason in _MOVABLE:
            self._retry_or_fail(error)
        else:
            self.fail(error)

    def is_current(self, output: AttemptOutput) -> bool:
        """Whether an output belongs to the attempt that runs now."""
        return self._open.get(output.handle) is output

    def output_stopped(self, output: AttemptOutput, stop_index: int) -> None:
        """A stop string ended an output: the worker need not go on."""
        stop_strings = self._options.stop_strings
        if stop_index >= len(stop_strings):
            raise FrameViolationError(
                f"the tokenizer named stop string {stop_index} of {len(stop_strings)}"
            )
        if self._worker is not None and self._tokenizer is not None:
            self._worker.abort([output.handle], errors_pb2.ERROR_REASON_UNSPECIFIED)
            if not output.worker_reason:
                # Otherwise it is being closed already, and the tokenizer answers that.
                self._tokenizer.abandon(output.handle)
        self.timeline.worker_ended = time.monotonic()
        self._finish(output, stop_strings[stop_index])

    def output_closed(self, output: AttemptOutput) -> None:
        """The worker's end, with all text out."""
        self._finish(output, None)

    def _finish(self, output: AttemptOutput, stop_string: str | None) -> None:
        if output.events is not None and self.is_current(output):
            output.events.finish(output.released_tokens)
        if self._open.pop(output.handle, None) is None:
            return
        self._count(output)
        reason = finish_reason(stop_string_hit=stop_string is not None, worker=output.worker_reason)
        result = OutputResult(reason, output.consumed_tokens, stop_string, output.reasoning_tokens)
        self._consumer.on_finish(output.index, result)
        if not (self._open or self._is_over):
            self._release(None)
            self._consumer.on_done()

    def on_worker_lost(self, why: str) -> None:
        """The worker is gone: go elsewhere, or fail."""
        del why  # the link has logged it; it is of no use to a client
        self._num_lost_workers += 1
        # Two in a row may be the request's own doing: a client that repeats it loses more of them.
        self._retry_or_fail(_lost(is_final=self._num_lost_workers > 1))

    def on_tokenizer_lost(self, why: str) -> None:
        """The tokenizer is gone: go elsewhere, or fail. The worker may serve the next attempt."""
        del why  # as above
        self._retry_or_fail(_lost(), avoid_worker=False)

    def on_text_failure(self, error: ServiceError) -> None:
        """The tokenizer failed an output; one that shuts down may be replaced."""
        if error.reason == errors_pb2.ERROR_REASON_DRAINING:
            self._retry_or_fail(error, avoid_worker=False)
        else:
            self.fail(error)

    def _retry_or_fail(self, error: ServiceError, *, avoid_worker: bool = True) -> None:
        if self._can_retry():
            self._retry(error, avoid_worker=avoid_worker)
        else:
            self.fail(error)

    def _can_retry(self) -> bool:
        return not (self._was_retried or self._consumer.has_delivered)

    def _retry(self, error: ServiceError, *, avoid_worker: bool) -> None:
        self._was_retried = True
        self._placement.count_retry(error)
        self._spans.end(error, sum(self.usage.completion_tokens))
        if avoid_worker and self._worker is not None:
            self._avoided |= {self._worker}
        self._close_outputs(error)
        try:
            self._attempt()
        except ServiceError as second:
            self._spans.end(second, 0)
            # Where to go there is nowhere: what ended the first attempt is the truth.
            self.fail(error)

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
        handles, self._open = list(self._open), {}
        if self._worker is not None:
            # Whatever else went wrong is not the worker's: its caller does not want it any more.
            is_late = error is not None and error.reason == _LATE
            self._worker.abort(handles, _LATE if is_late else _UNWANTED)
        if self._tokenizer is not None:
            for handle in handles:
                self._tokenizer.abandon(handle)

    def _release(self, error: ServiceError | None) -> None:
        self._is_over = True
        self.timeline.ended = time.monotonic()
        # The last counts, before the outputs are forgotten.
        self._spans.end(error, sum(self.usage.completion_tokens))
        self._close_outputs(error)
        self._worker = self._tokenizer = None
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

"""One running request: its outputs on a worker and a tokenizer, its loss, and its retry.

Owner of everything that the request has open: handles on both links and the deadline's timer; all
of it is released in `_release`, whichever way the request ends.
"""

import asyncio
from collections.abc import Callable
from typing import Protocol

from headrace.client.answers import (
    AnswerConsumer,
    AnswerTimes,
    AnswerUsage,
    GenerationOptions,
    OutputResult,
    RenderedPrompt,
)
from headrace.client.finish import finish_reason
from headrace.client.logprobs import LogprobJoin, TokenJoin
from headrace.client.output_events import OutputEvents
from headrace.client.requests import detokenize_open, generation_request
from headrace.client.tokenizer_link import TokenizerLink
from headrace.client.worker_link import WorkerLink
from headrace.common.v1 import errors_pb2
from headrace.common.v1.errors_pb2 import Failure
from headrace.common.v1.finish_pb2 import (
    FINISH_REASON_LENGTH,
    FINISH_REASON_STOP,
    FINISH_REASON_UNSPECIFIED,
)
from headrace.rpc.errors import ServiceError, error_from_failure
from headrace.rpc.frame_stream import FrameViolationError
from headrace.tokenizer.v1.detokenize_pb2 import StopHit
from headrace.worker.v1.generation_pb2 import Started, Terminal

_MOVABLE = frozenset({errors_pb2.ERROR_REASON_DRAINING, errors_pb2.ERROR_REASON_OVERLOADED})
"""A worker's refusals that another worker need not share."""


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


def _refuse_text(text: str) -> None:
    raise FrameViolationError(f"the tokenizer sent text, {text[:20]!r}, where events were due")


class Placement(Protocol):
    """Chooses where a request goes."""

    def place(
        self, prompt: RenderedPrompt, avoided: frozenset[WorkerLink]
    ) -> tuple[WorkerLink, TokenizerLink]:
        """A worker that is not avoided, and a tokenizer; raises ServiceError when there is none."""

    def next_handles(self, count: int) -> int:
        """The first of `count` new handles."""


class _Output:
    """One output of one attempt; a TextOutput."""

    __slots__ = (
        "_request",
        "consumed_tokens",
        "events",
        "handle",
        "index",
        "logprobs",
        "released_tokens",
        "worker_reason",
        "write",
    )

    def __init__(
        self, request: "RunningGeneration", index: int, handle: int, consumer: AnswerConsumer
    ) -> None:
        self._request = request
        self.index = index
        self.handle = handle
        self.logprobs: TokenJoin | None = None
        self.events: OutputEvents | None = None
        self.write: Callable[[str], None]
        fail = self._on_contradiction
        if request.has_events:
            self.logprobs = TokenJoin(fail) if request.has_logprobs else None
            self.events = OutputEvents(consumer.event_writer(index), self.logprobs, fail)
            self.write = _refuse_text
        elif request.has_logprobs:
            self.logprobs = join = LogprobJoin(consumer.logprobs_writer(index), fail)
            self.write = join.write
        else:
            self.write = consumer.text_writer(index)
        self.consumed_tokens = 0
        self.released_tokens = 0
        self.worker_reason = FINISH_REASON_UNSPECIFIED

    @property
    def reasoning_tokens(self) -> int:
        return 0 if self.events is None else self.events.reasoning_tokens

    def on_stop_hit(self, hit: StopHit) -> None:
        self.consumed_tokens = hit.consumed_tokens
        self._request.output_stopped(self, hit.stop_index)

    def on_closed(self) -> None:
        self._request.output_closed(self)

    def on_text_failure(self, failure: Failure) -> None:
        if self._request.is_current(self):
            self._request.on_text_failure(error_from_failure(failure))

    def _on_contradiction(self, error: ServiceError) -> None:
        if self._request.is_current(self):
            self._request.fail(error)

    def on_tokenizer_lost(self, why: str) -> None:
        # One request may have had several outputs there; the first one's loss moved them all.
        if self._request.is_current(self):
            self._request.on_tokenizer_lost(why)


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
        self._open: dict[int, _Output] = {}
        self._worker: WorkerLink | None = None
        self._tokenizer: TokenizerLink | None = None
        self._avoided: frozenset[WorkerLink] = frozenset()
        self._was_retried = self._is_over = False
        self._num_lost_workers = 0
        self._has_started = False
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

    def _count(self, output: _Output) -> None:
        self._usage.completion_tokens[output.index] = output.consumed_tokens
        self._usage.reasoning_tokens[output.index] = output.reasoning_tokens

    def start(self) -> None:
        """Place the request and send it. Raises ServiceError; then nothing is open."""
        try:
            self._attempt()
        except ServiceError:
            self._release()
            raise

    def abort(self) -> None:
        """End it now; the consumer hears nothing more."""
        self._release()

    def _attempt(self) -> None:
        worker, tokenizer = self._placement.place(self._prompt, self._avoided)
        self._worker, self._tokenizer = worker, tokenizer
        self._has_started = False
        first = self._placement.next_handles(self._options.n)
        for index in range(self._options.n):
            output = _Output(self, index, first + index, self._consumer)
            self._open[output.handle] = output
            tokenizer.open(detokenize_open(output.handle, self._prompt, self._options), output)
        request = generation_request(self._prompt, self._options, asyncio.get_running_loop())
        worker.submit(first, request, self)

    def on_worker_started(self, started: Started) -> None:
        """Tell the consumer, once an attempt."""
        if self._has_started:
            return
        self._has_started = True
        self._usage.cached_prompt_tokens = started.cached_prompt_tokens
        self._consumer.on_started(
            AnswerTimes(
                prompt_tokens=started.prompt_tokens,
                cached_prompt_tokens=started.cached_prompt_tokens,
                queue_ms=started.queue_ms,
                prefill_ms=started.prefill_ms,
            )
        )

    def on_worker_terminal(self, terminal: Terminal) -> None:
        """Close the output's text, or fail the request."""
        output = self._open.get(terminal.handle)
        if output is None:
            return
        if terminal.finish_reason in _KNOWN_REASONS and self._tokenizer is not None:
            output.worker_reason = terminal.finish_reason
            self._tokenizer.finish(output.handle, terminal.finish_reason)
            return
        error = _terminal_error(terminal)
        if error.reason in _MOVABLE:
            self._retry_or_fail(error)
        else:
            self.fail(error)

    def is_current(self, output: _Output) -> bool:
        """Whether an output belongs to the attempt that runs now."""
        return self._open.get(output.handle) is output

    def output_stopped(self, output: _Output, stop_index: int) -> None:
        """A stop string ended an output: the worker need not go on."""
        stop_strings = self._options.stop_strings
        if stop_index >= len(stop_strings):
            raise FrameViolationError(
                f"the tokenizer named stop string {stop_index} of {len(stop_strings)}"
            )
        if self._worker is not None and self._tokenizer is not None:
            self._worker.abort([output.handle])
            if not output.worker_reason:
                # Otherwise it is being closed already, and the tokenizer answers that.
                self._tokenizer.abandon(output.handle)
        self._finish(output, stop_strings[stop_index])

    def output_closed(self, output: _Output) -> None:
        """The worker's end, with all text out."""
        self._finish(output, None)

    def _finish(self, output: _Output, stop_string: str | None) -> None:
        if output.events is not None and self.is_current(output):
            output.events.finish(output.released_tokens)
        if self._open.pop(output.handle, None) is None:
            return
        self._count(output)
        reason = finish_reason(stop_string_hit=stop_string is not None, worker=output.worker_reason)
        result = OutputResult(reason, output.consumed_tokens, stop_string, output.reasoning_tokens)
        self._consumer.on_finish(output.index, result)
        if not (self._open or self._is_over):
            self._release()
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
        if avoid_worker and self._worker is not None:
            self._avoided |= {self._worker}
        self._close_outputs()
        try:
            self._attempt()
        except ServiceError:
            # Where to go there is nowhere: what ended the first attempt is the truth.
            self.fail(error)

    def fail(self, error: ServiceError) -> None:
        """End the request with an error; the consumer hears it once."""
        self._release()
        self._consumer.on_error(error)

    def _on_deadline(self) -> None:
        self.fail(
            ServiceError(
                errors_pb2.ERROR_REASON_DEADLINE_EXCEEDED,
                "The request's time ran out before the answer was complete.",
            )
        )

    def _close_outputs(self) -> None:
        handles, self._open = list(self._open), {}
        if self._worker is not None:
            self._worker.abort(handles)
        if self._tokenizer is not None:
            for handle in handles:
                self._tokenizer.abandon(handle)

    def _release(self) -> None:
        self._is_over = True
        _ = self.usage  # the last counts, before the outputs are forgotten
        self._close_outputs()
        self._worker = self._tokenizer = None
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

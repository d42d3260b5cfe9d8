"""One output of a request: from the tokenizer's frames to the consumer's writers.

It sits at a worker, by a handle, and is read at a tokenizer, by another: the same number until one
of the two is lost and the output goes on elsewhere.
"""

from collections.abc import Callable
from typing import Protocol, TypeVar

from headrace.client.answers import AnswerConsumer
from headrace.client.attempt_spans import AttemptSpan
from headrace.client.logprobs import LogprobJoin, TokenJoin
from headrace.client.output_events import OutputEvents
from headrace.client.tokenizer_link import TokenizerLink
from headrace.client.worker_link import WorkerLink
from headrace.common.v1.errors_pb2 import Failure
from headrace.common.v1.finish_pb2 import FINISH_REASON_UNSPECIFIED
from headrace.rpc.errors import ServiceError, error_from_failure
from headrace.rpc.frame_stream import FrameViolationError
from headrace.tokenizer.v1.detokenize_pb2 import DetokenizeOpen, StopHit

_FirstT = TypeVar("_FirstT")
_SecondT = TypeVar("_SecondT")


class OutputOwner(Protocol):
    """The request; what it is told of an output that is not current is the output's to sift."""

    @property
    def has_logprobs(self) -> bool:
        """Whether log probabilities were asked for."""

    @property
    def has_events(self) -> bool:
        """Whether the answer comes as events and not as plain text."""

    def is_current(self, output: "AttemptOutput") -> bool:
        """Whether an output belongs to the attempt that runs now."""

    def on_first_text(self) -> None:
        """An output is about to hand its first text or event on."""

    def output_stopped(self, output: "AttemptOutput", stop_index: int) -> None:
        """A stop string ended it."""

    def output_closed(self, output: "AttemptOutput") -> None:
        """The worker's end, with all text out."""

    def on_text_failure(self, output: "AttemptOutput", error: ServiceError) -> None:
        """The tokenizer failed it."""

    def on_tokenizer_lost(self, output: "AttemptOutput", *, is_crash: bool) -> None:
        """Its tokenizer is gone; it is not a crash where it was shutting down."""

    def fail(self, error: ServiceError) -> None:
        """End the request with an error."""


class AttemptOutput:
    """A TextOutput."""

    __slots__ = (
        "_attempt",
        "_known_token_ids",
        "_num_given",
        "_owner",
        "consumed_tokens",
        "events",
        "handle",
        "index",
        "logprobs",
        "num_moves",
        "num_refusals",
        "num_tokenizer_crashes",
        "released_tokens",
        "tokenizer",
        "worker",
        "worker_handle",
        "worker_reason",
        "write",
    )

    def __init__(
        self,
        owner: OutputOwner,
        index: int,
        handle: int,
        seats: tuple[WorkerLink, TokenizerLink],
        consumer: AnswerConsumer,
    ) -> None:
        """`handle` is that at both of its seats."""
        self._owner = owner
        self.index = index
        self.handle = self.worker_handle = handle
        self.worker: WorkerLink | None
        self.worker, self.tokenizer = seats
        self._known_token_ids: list[int] = []
        self._num_given = 0  # tokens that its worker was told of
        self._attempt: AttemptSpan | None = None
        self.num_moves = 0
        """How often it went on elsewhere."""
        self.num_refusals = 0
        """By workers, since it went on elsewhere."""
        self.num_tokenizer_crashes = 0
        """Of tokenizers with it aboard; it may be the reason."""
        self.logprobs: TokenJoin | None = None
        self.events: OutputEvents | None = None
        self.write: Callable[[str], None]
        fail, note = self._on_contradiction, owner.on_first_text
        if owner.has_events:
            self.logprobs = TokenJoin(fail) if owner.has_logprobs else None
            write_events = _noting_first(consumer.event_writer(index), note)
            self.events = OutputEvents(write_events, self.logprobs, fail)
            self.write = _refuse_text
        elif owner.has_logprobs:
            write_logprobs = _noting_first(consumer.logprobs_writer(index), note)
            self.logprobs = join = LogprobJoin(write_logprobs, fail)
            self.write = join.write
        else:
            self.write = self._first_writer(consumer.text_writer(index))
        self.consumed_tokens = 0
        self.released_tokens = 0
        self.worker_reason = FINISH_REASON_UNSPECIFIED

    def _first_writer(self, write: Callable[[str], None]) -> Callable[[str], None]:
        """Takes the first text, and leaves: from the second on nothing stands in between."""

        def write_first(text: str) -> None:
            self.write = write
            self._owner.on_first_text()
            write(text)

        return write_first

    @property
    def reasoning_tokens(self) -> int:
        """Of the consumed tokens those of thoughts."""
        return 0 if self.events is None else self.events.reasoning_tokens

    @property
    def known_token_ids(self) -> list[int]:
        """All of it that workers have said so far; looked for, at some cost."""
        if self.worker is None:
            return self._known_token_ids
        return self._known_token_ids + self.worker.tokens_of(self.worker_handle)

    @property
    def is_continued(self) -> bool:
        """Whether its worker was told of a part that another one had generated."""
        return self.worker is not None and bool(self._known_token_ids)

    def join(self, attempt: AttemptSpan) -> None:
        """Its worker's part of it begins."""
        self._attempt = attempt
        attempt.join()

    def started(self, cached_tokens: int) -> None:
        """Its worker took it up, and so many tokens of the prompt were cached."""
        if self._attempt is not None:
            self._attempt.started(cached_tokens)

    def leave_attempt(self, error: ServiceError | None) -> None:
        """Its worker's part of it is over, if it is not yet."""
        attempt, self._attempt = self._attempt, None
        if attempt is not None:
            num_said = self.consumed_tokens if self.worker else len(self._known_token_ids)
            attempt.leave(max(0, num_said - self._num_given), error)

    def leave_worker(self) -> None:
        """Give the worker's seat up, and keep what was said there; its owner ends it there."""
        self._known_token_ids = self.known_token_ids
        if self.worker is not None:
            self.worker.release(self.worker_handle)
            self.worker = None

    def sit_at(self, worker: WorkerLink, handle: int) -> None:
        """Go on at another worker, which is told what is known."""
        self.worker, self.worker_handle = worker, handle
        self._num_given = len(self._known_token_ids)
        self.num_moves += 1

    def reopen(self, tokenizer: TokenizerLink, entry: DetokenizeOpen) -> None:
        """Go on at another tokenizer, by the handle of `entry`. Raises ServiceError: too large."""
        entry.prior_token_ids.extend(self.known_token_ids)
        entry.released_tokens = self.released_tokens
        if self.events is not None:
            self.events.rewind()
        if self.logprobs is not None:
            entry.prior_alternatives.CopyFrom(self.logprobs.rewind(self.released_tokens))
        self.tokenizer, self.handle = tokenizer, entry.handle
        self.num_moves += 1
        tokenizer.open(entry, self)
        if self.worker_reason:
            tokenizer.finish(self.handle, self.worker_reason)

    def on_stop_hit(self, hit: StopHit) -> None:
        """Part of TextOutput."""
        self.consumed_tokens = hit.consumed_tokens
        self._owner.output_stopped(self, hit.stop_index)

    def on_closed(self) -> None:
        """Part of TextOutput."""
        self._owner.output_closed(self)

    def on_text_failure(self, failure: Failure) -> None:
        """Part of TextOutput."""
        if self._owner.is_current(self):
            self._owner.on_text_failure(self, error_from_failure(failure))

    def on_tokenizer_lost(self, *, is_crash: bool) -> None:
        """Part of TextOutput."""
        self.num_tokenizer_crashes += is_crash
        if self._owner.is_current(self):
            self._owner.on_tokenizer_lost(self, is_crash=is_crash)

    def _on_contradiction(self, error: ServiceError) -> None:
        if self._owner.is_current(self):
            self._owner.fail(error)


def _refuse_text(text: str) -> None:
    raise FrameViolationError(f"the tokenizer sent text, {text[:20]!r}, where events were due")


def _noting_first(
    write: Callable[[_FirstT, _SecondT], None], note: Callable[[], None]
) -> Callable[[_FirstT, _SecondT], None]:
    """The same writer, whose first call is told beforehand."""
    is_first = True

    def pass_on(first: _FirstT, second: _SecondT) -> None:
        nonlocal is_first
        if is_first:
            is_first = False
            note()
        write(first, second)

    return pass_on

"""One output of one attempt of a request: from the tokenizer's frames to the consumer's writers."""

from collections.abc import Callable
from typing import Protocol, TypeVar

from headrace.client.answers import AnswerConsumer
from headrace.client.logprobs import LogprobJoin, TokenJoin
from headrace.client.output_events import OutputEvents
from headrace.common.v1.errors_pb2 import Failure
from headrace.common.v1.finish_pb2 import FINISH_REASON_UNSPECIFIED
from headrace.rpc.errors import ServiceError, error_from_failure
from headrace.rpc.frame_stream import FrameViolationError
from headrace.tokenizer.v1.detokenize_pb2 import StopHit

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

    def on_text_failure(self, error: ServiceError) -> None:
        """The tokenizer failed it."""

    def on_tokenizer_lost(self, why: str) -> None:
        """The tokenizer is gone."""

    def fail(self, error: ServiceError) -> None:
        """End the request with an error."""


class AttemptOutput:
    """A TextOutput."""

    __slots__ = (
        "_owner",
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
        self, owner: OutputOwner, index: int, handle: int, consumer: AnswerConsumer
    ) -> None:
        self._owner = owner
        self.index = index
        self.handle = handle
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
            self._owner.on_text_failure(error_from_failure(failure))

    def on_tokenizer_lost(self, why: str) -> None:
        """Part of TextOutput."""
        # One request may have had several outputs there; the first one's loss moved them all.
        if self._owner.is_current(self):
            self._owner.on_tokenizer_lost(why)

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

"""The first text of an output is noted, and costs the others nothing."""

from collections.abc import Callable
from typing import Any

from headrace.client.answer_events import ContentDelta, TokenLogprob
from headrace.client.attempt_output import AttemptOutput
from headrace.rpc.errors import ServiceError
from headrace.tokenizer.v1.detokenize_pb2 import OutputDelta
from tests.support.recording_consumer import RecordingConsumer

SEATS: Any = (None, None)
"""Nobody asks anything of the links here."""


class Owner:
    """A request that notes what it hears of first texts."""

    def __init__(self, *, has_events: bool = False, has_logprobs: bool = False) -> None:
        self.has_events, self.has_logprobs = has_events, has_logprobs
        self.num_firsts = 0

    def on_first_text(self) -> None:
        self.num_firsts += 1

    def is_current(self, output: AttemptOutput) -> bool:
        return True

    def output_stopped(self, output: AttemptOutput, stop_index: int) -> None:
        raise AssertionError

    def output_closed(self, output: AttemptOutput) -> None:
        raise AssertionError

    def on_text_failure(self, output: AttemptOutput, error: ServiceError) -> None:
        raise error

    def on_tokenizer_lost(self, output: AttemptOutput, *, is_crash: bool) -> None:
        raise AssertionError

    def fail(self, error: ServiceError) -> None:
        raise error


class KeepingConsumer(RecordingConsumer):
    """Keeps the writer that it gave out."""

    writer: Callable[[str], None]

    def text_writer(self, index: int) -> Callable[[str], None]:
        self.writer = super().text_writer(index)
        return self.writer


def test_from_the_second_text_on_nothing_stands_in_between() -> None:
    """The consumer's own writer takes the place of the one that noted the first text."""
    owner, consumer = Owner(), KeepingConsumer()
    output = AttemptOutput(owner, 0, 1, SEATS, consumer)
    assert (0, {0: ""}) == (owner.num_firsts, consumer.texts)

    output.write("a")
    assert output.write is consumer.writer
    output.write("b")

    assert (1, {0: "ab"}) == (owner.num_firsts, consumer.texts)


def test_first_events_are_noted_once() -> None:
    """Where the answer comes as events, the first of them is its first text."""
    owner, consumer = Owner(has_events=True), RecordingConsumer()
    output = AttemptOutput(owner, 0, 1, SEATS, consumer)
    assert output.events is not None
    for text in ("a", "b"):
        output.events.add(OutputDelta(handle=1, content=text))
        output.events.release(1)

    assert 1 == owner.num_firsts
    assert [[ContentDelta("a")], [ContentDelta("b")]] == consumer.event_calls[0]


def test_first_log_probabilities_are_noted_once() -> None:
    """Texts that come with log probabilities are texts too."""
    owner = Owner(has_logprobs=True)
    consumer = RecordingConsumer()
    output = AttemptOutput(owner, 0, 1, SEATS, consumer)
    assert output.logprobs is not None
    for text in ("a", "b"):
        output.logprobs._unwritten.append(TokenLogprob(text.encode(), -1.0, ()))
        output.write(text)

    assert (1, {0: "ab"}) == (owner.num_firsts, consumer.texts)

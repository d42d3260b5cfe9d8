"""The frame under construction: order, completeness and size, for any sequence of additions."""

from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.client.attach_outbox import SubmissionOutbox
from headrace.client.detokenize_outbox import FeedOutbox
from headrace.common.v1 import errors_pb2
from headrace.common.v1.finish_pb2 import FINISH_REASON_STOP
from headrace.rpc.limits import MERGE_BYTES
from headrace.rpc.outbox import RollingOutbox
from headrace.tokenizer.v1.detokenize_pb2 import DetokenizeOpen, TokenAlternatives
from headrace.worker.v1.attach_pb2 import Submission
from headrace.worker.v1.generation_pb2 import GenerationRequest, Started, Terminal
from worker.attach_outbox import AttachOutbox


@dataclass
class _Frame:
    entries: list[tuple[int, int]] = field(default_factory=list)


class _NumberOutbox(RollingOutbox[_Frame]):
    """Entries are a number and a size."""

    def __init__(self) -> None:
        super().__init__(_Frame)

    def add(self, number: int, size: int) -> None:
        self._room_for(size, 1).entries.append((number, size))


@given(st.lists(st.one_of(st.none(), st.integers(1, 2 * MERGE_BYTES)), max_size=60))
def test_any_additions_and_takes_keep_order_and_lose_nothing(steps: list[int | None]) -> None:
    """None takes a frame, a number adds an entry of that size: what goes in comes out, in order."""
    outbox = _NumberOutbox()
    added: list[tuple[int, int]] = []
    taken: list[_Frame] = []
    for number, size in enumerate(steps):
        if size is None:
            taken.append(outbox.take())
        else:
            outbox.add(number, size)
            added.append((number, size))
        waiting = len(added) - sum(len(frame.entries) for frame in taken)
        assert waiting == outbox.pending_tokens
        assert outbox.is_empty == (waiting == 0)
    while not outbox.is_empty:
        taken.append(outbox.take())

    assert added == [entry for frame in taken for entry in frame.entries]
    for frame in taken:
        size = sum(size for _, size in frame.entries)
        assert size <= MERGE_BYTES or len(frame.entries) == 1


def test_alternatives_count_as_tokens_that_wait() -> None:
    """They share a frame with the tokens they belong to, its size, and the bound on what waits."""
    outbox = FeedOutbox()
    large = TokenAlternatives(handle=1, counts=[250_000], token_ids=[70_000] * 250_000)

    outbox.feed([1], [1], [5])
    outbox.feed([1], [1], [6], [large])
    outbox.feed([1], [1], [7], [large])
    waiting = outbox.pending_tokens
    frames = [outbox.take(), outbox.take()]

    assert waiting == 3 + 500_000
    assert (outbox.is_empty, outbox.pending_tokens) == (True, 0)
    assert [list(frame.token_ids) for frame in frames] == [[5, 6], [7]]
    assert [len(frame.alternatives) for frame in frames] == [1, 1]
    assert max(frame.ByteSize() for frame in frames) <= MERGE_BYTES


def test_an_empty_outbox_gives_an_empty_frame() -> None:
    """A heartbeat is an empty frame; taking it changes nothing."""
    outbox = _NumberOutbox()

    assert [] == outbox.take().entries
    assert outbox.is_empty
    assert 0 == outbox.pending_tokens


_handles = st.integers(1, 2**64 - 1)


def _add_to_attach(outbox: AttachOutbox, handle: int, count: int) -> None:
    outbox.accept([handle])
    outbox.start(Started(handle=handle, prompt_tokens=2**32 - 1, queue_ms=2**32 - 1))
    outbox.tokens([handle], [count], [2**32 - 1] * count)
    outbox.end(Terminal(handle=handle, stop_token_id=2**32 - 1, decode_ms=2**32 - 1))


def _add_to_submissions(outbox: SubmissionOutbox, handle: int, count: int) -> None:
    request = GenerationRequest(prompt_token_ids=[2**32 - 1] * count)
    submission = Submission(first_handle=handle, request=request)
    outbox.submit(submission, submission.ByteSize())
    outbox.abort([handle] * count, errors_pb2.ERROR_REASON_CLIENT_CANCELLED)


def _add_to_feeds(outbox: FeedOutbox, handle: int, count: int) -> None:
    outbox.open(DetokenizeOpen(handle=handle, prior_token_ids=[2**32 - 1] * count))
    outbox.feed([handle], [count], [2**32 - 1] * count)
    outbox.close(handle, FINISH_REASON_STOP)


@pytest.mark.parametrize(
    ("make", "add"),
    [
        (AttachOutbox, _add_to_attach),
        (SubmissionOutbox, _add_to_submissions),
        (FeedOutbox, _add_to_feeds),
    ],
    ids=lambda value: value.__name__,
)
@given(entries=st.lists(st.tuples(_handles, st.integers(1, 9000)), min_size=1, max_size=60))
def test_real_frames_stay_within_a_mebibyte(
    make: type[RollingOutbox], add: Callable, entries: list[tuple[int, int]]
) -> None:
    """The sizes that the outboxes reckon with are never below what protobuf makes of them."""
    outbox = make()
    for handle, count in entries:
        add(outbox, handle, count)
    sizes = []
    while not outbox.is_empty:
        sizes.append(outbox.take().ByteSize())

    assert all(size <= MERGE_BYTES for size in sizes)
    assert 0 == outbox.pending_tokens


def test_a_larger_single_entry_goes_alone() -> None:
    """A submission above the merge size has a frame of its own, in its place."""
    outbox = SubmissionOutbox()
    for first_handle, count in ((1, 10), (2, 400_000), (3, 10)):
        request = GenerationRequest(prompt_token_ids=[2**32 - 1] * count)
        submission = Submission(first_handle=first_handle, request=request)
        outbox.submit(submission, submission.ByteSize())
    frames = []
    while not outbox.is_empty:
        frames.append(outbox.take())

    assert [[1], [2], [3]] == [[s.first_handle for s in frame.submissions] for frame in frames]
    assert MERGE_BYTES < frames[1].ByteSize()


def test_entries_without_tokens_are_not_forgotten() -> None:
    """An entry that counts no tokens still makes the outbox not empty."""
    outbox = FeedOutbox()
    outbox.feed([7], [0], [])

    assert not outbox.is_empty
    assert [7] == list(outbox.take().handles)

"""What an engine notes of a request's way: in order, within its life, and as its events tell it."""

import time

import pytest

from tests.contract.engine.subject import Subject, TimedSink
from worker.engine.seam import EndedEvent, Guide, RequestProgress, StartedEvent

pytestmark = pytest.mark.asyncio(loop_scope="session")

ROUNDING_MS = 1.0
"""Events tell whole milliseconds."""


def check(
    progress: RequestProgress, begin: float, started: StartedEvent, ended: EndedEvent
) -> None:
    """Fed, first token, last token: in this order, and their distances are the events' times."""
    fed, first, last = progress.fed_at, progress.first_token_at, progress.last_token_at
    assert fed is not None
    assert first is not None
    assert last is not None
    assert begin <= fed < first <= last <= time.monotonic()
    assert (fed - begin) * 1000 == pytest.approx(started.queue_ms, abs=ROUNDING_MS + 1)
    assert (first - fed) * 1000 == pytest.approx(started.prefill_ms, abs=ROUNDING_MS)
    assert (last - first) * 1000 == pytest.approx(ended.decode_ms, abs=ROUNDING_MS)


@pytest.mark.parametrize("length", [20, 300])
async def test_the_times_add_up(subject: Subject, length: int) -> None:
    """Queue, prefill and decode follow one another, and together are the time until the end."""
    request = subject.request(subject.prompt(length, 5), max_tokens=12, ignore_eos=True)
    sink = TimedSink()
    begin = time.monotonic()
    subject.engine.submit(request, sink)
    await sink.all_ended(request.first_key)

    key = request.first_key
    check(request.progress, begin, sink.started[key], sink.ended[key])
    assert request.progress.num_output_tokens == 12


async def test_several_outputs_have_one_set_of_times(subject: Subject) -> None:
    """From the first that is fed to the last that ends; tokens are those of all."""
    request = subject.request(n=4, max_tokens=6, ignore_eos=True)
    begin = time.monotonic()
    answers = await subject.outputs(request)

    progress = request.progress
    assert progress.fed_at is not None
    assert progress.first_token_at is not None
    assert progress.last_token_at is not None
    assert begin <= progress.fed_at < progress.first_token_at <= progress.last_token_at
    waits = [answer.started.queue_ms for answer in answers]
    assert (progress.fed_at - begin) * 1000 == pytest.approx(min(waits), abs=ROUNDING_MS + 1)
    assert progress.num_output_tokens == 24


async def test_a_wait_in_the_queue_is_no_prefill(narrow: Subject) -> None:
    """The second of two in a single place is fed when the first has ended."""
    requests = [narrow.request(max_tokens=20, ignore_eos=True) for _ in range(2)]
    await narrow.generate_all(requests)

    first, second = (request.progress for request in requests)
    assert first.last_token_at is not None
    assert second.fed_at is not None
    assert second.fed_at >= first.last_token_at
    assert (second.first_token_at or 0) > second.fed_at


async def test_what_was_aborted_in_the_queue_was_never_fed(narrow: Subject) -> None:
    """Of what waited only the waiting is known; of what ran, what it had generated."""
    running, waiting = (narrow.request(max_tokens=300, ignore_eos=True) for _ in range(2))
    sink = TimedSink()
    narrow.engine.submit(running, sink)
    narrow.engine.submit(waiting, sink)
    await sink.has_tokens(running.first_key, 5)
    narrow.engine.abort(sink, [waiting.first_key])
    narrow.engine.abort(sink, [running.first_key])
    await narrow.generate(max_tokens=2, ignore_eos=True)

    assert waiting.progress == RequestProgress()
    assert running.progress.num_output_tokens >= len(sink.token_ids[running.first_key]) >= 5
    assert running.progress.fed_at is not None
    assert running.progress.last_token_at is None


async def test_a_guide_that_cannot_be_followed_fails_in_the_queue(subject: Subject) -> None:
    """The model is never fed for it."""
    if "guide.regex" not in subject.engine.info.honoured_fields:
        pytest.skip("refused by name")
    request = subject.request(guide=Guide("regex", "(unclosed"), max_tokens=4)
    sink = TimedSink()
    subject.engine.submit(request, sink)
    await sink.all_ended(request.first_key)

    assert sink.ended[request.first_key].error is not None
    assert request.progress == RequestProgress()

"""An abort in every state, and what is left of it."""

import random

import pytest

from headrace.common.v1.finish_pb2 import FINISH_REASON_LENGTH
from tests.contract.engine.subject import Subject, TimedSink

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def _is_clean(subject: Subject) -> None:
    """Another request has what it needs, and afterwards no block is in use, nobody waits."""
    answer = await subject.generate(max_tokens=4, ignore_eos=True)
    load = subject.engine.load
    assert answer.ended.finish_reason == FINISH_REASON_LENGTH
    assert (load.referenced_blocks, load.queued_outputs) == (0, 0)
    assert load.free_blocks + load.cached_blocks == load.total_blocks


@pytest.mark.parametrize("tokens", [0, 1, 7])
async def test_while_it_is_read_or_decodes(subject: Subject, tokens: int) -> None:
    """After so many tokens, none being during prefill, the output falls silent and frees all."""
    sink = TimedSink()
    request = subject.request(subject.prompt(200, tokens), max_tokens=400, ignore_eos=True)
    subject.engine.submit(request, sink)
    if tokens:
        await sink.has_tokens(request.first_key, tokens)
    subject.engine.abort(sink, [request.first_key])
    await _is_clean(subject)
    emitted = sink.calls
    await _is_clean(subject)

    assert sink.calls == emitted
    assert sink.ended == {}
    assert sink.violations == []


async def test_in_the_queue(narrow: Subject) -> None:
    """A waiting output never starts; the running one and the other waiting one end well."""
    sink = TimedSink()
    requests = [narrow.request(max_tokens=20, ignore_eos=True) for _ in range(3)]
    for request in requests:
        narrow.engine.submit(request, sink)
    first, waiting, last = (request.first_key for request in requests)
    narrow.engine.abort(sink, [waiting])
    await sink.all_ended(first, last)
    await _is_clean(narrow)

    assert sink.token_ids.keys() == {first, last}
    assert sink.violations == []


@pytest.mark.parametrize("victims", [(0,), (1, 3), (0, 1, 2)])
@pytest.mark.parametrize("tokens", [0, 3])
async def test_some_outputs_of_a_request(
    subject: Subject, victims: tuple[int, ...], tokens: int
) -> None:
    """The others get to their end, whichever goes and whenever."""
    sink = TimedSink()
    request = subject.request(n=4, max_tokens=15, ignore_eos=True)
    subject.engine.submit(request, sink)
    if tokens:
        await sink.has_tokens(request.first_key, tokens)
    subject.engine.abort(sink, [request.keys[victim] for victim in victims])
    left = [key for index, key in enumerate(request.keys) if index not in victims]
    await sink.all_ended(*left)
    await _is_clean(subject)

    assert [len(sink.token_ids[key]) for key in left] == [15] * len(left)
    assert sink.ended.keys() == set(left)


async def test_what_is_unknown_or_ended(subject: Subject) -> None:
    """Ended keys, unknown keys and unknown sinks are ignored."""
    sink = TimedSink()
    request = subject.request(max_tokens=2)
    subject.engine.submit(request, sink)
    await sink.all_ended(request.first_key)
    subject.engine.abort(sink, [request.first_key, 10**9])
    subject.engine.abort(TimedSink(), [request.first_key])
    await _is_clean(subject)


@pytest.mark.timeout(180)
async def test_at_random(subject: Subject) -> None:
    """Sixty outputs aborted at random moments leave nothing behind."""
    chance = random.Random(5)
    sink = TimedSink()
    keys: list[int] = []
    for number in range(20):
        prompt = subject.prompt(chance.randrange(1, 100), number % 7)
        request = subject.request(prompt, n=3, max_tokens=50, ignore_eos=True)
        subject.engine.submit(request, sink)
        keys += request.keys
        if chance.random() < 0.2:
            await sink.has_tokens(keys[-3], chance.randrange(1, 3))
        subject.engine.abort(sink, chance.sample(keys[-6:], min(len(keys), 4)))
    subject.engine.abort(sink, keys)
    await _is_clean(subject)

    assert sink.violations == []

"""Order and form of what an engine emits."""

import asyncio
import threading

import pytest

from headrace.common.v1.finish_pb2 import FINISH_REASON_LENGTH
from tests.contract.engine.subject import Subject, TimedSink
from worker.engine.seam import EngineEvents

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_tokens_come_one_iteration_after_another(subject: Subject) -> None:
    """Started, then deltas as they are drawn, then one end that counts them."""
    sink = TimedSink()
    request = subject.request(max_tokens=12, ignore_eos=True)
    subject.engine.submit(request, sink)
    await sink.all_ended(request.first_key)

    key = request.first_key
    ended, started = sink.ended[key], sink.started[key]
    assert sink.violations == []
    assert sink.calls == 12
    assert len(sink.token_ids[key]) == ended.num_output_tokens == 12
    assert (ended.finish_reason, ended.stop_token_id) == (FINISH_REASON_LENGTH, None)
    assert started.prompt_tokens == len(subject.short_prompt)
    assert min(started.queue_ms, started.prefill_ms, ended.decode_ms) >= 0


async def test_every_output_has_its_own_events(subject: Subject) -> None:
    """Four outputs take four keys in a row; each starts, has its tokens and ends once."""
    request = subject.request(n=4, max_tokens=6, ignore_eos=True)
    answers = await subject.outputs(request)

    assert len(answers) == 4
    assert [answer.ended.num_output_tokens for answer in answers] == [6] * 4
    assert {answer.started.prompt_tokens for answer in answers} == {len(request.prompt_token_ids)}
    for answer in answers:
        assert 0 <= answer.started.cached_prompt_tokens < len(request.prompt_token_ids)


async def test_sinks_are_apart(subject: Subject) -> None:
    """The same keys on two sinks are two requests, and an abort on one leaves the other."""
    first, second = TimedSink(), TimedSink()
    request = subject.request(max_tokens=10, ignore_eos=True)
    for sink in (first, second):
        subject.engine.submit(request, sink)
    subject.engine.abort(first, [request.first_key])
    await second.all_ended(request.first_key)

    assert len(second.token_ids[request.first_key]) == 10
    assert first.ended == {}


async def test_requests_that_run_together_are_one_call(subject: Subject) -> None:
    """Outputs of one sink that get tokens in the same iteration come in one object."""
    sink = TimedSink()
    requests = [subject.request(max_tokens=20, ignore_eos=True) for _ in range(5)]
    for request in requests:
        subject.engine.submit(request, sink)
    await sink.all_ended(*(request.first_key for request in requests))

    assert sink.violations == []
    # The first may be an iteration or two ahead of those that came while it began.
    assert sink.calls <= 25


async def test_events_come_on_the_loop(subject: Subject) -> None:
    """The sink is called on the thread and loop of `start`."""
    places = set()

    class Placed(TimedSink):
        def on_events(self, events: EngineEvents) -> None:
            places.add((threading.get_ident(), id(asyncio.get_running_loop())))
            super().on_events(events)

    sink = Placed()
    request = subject.request(max_tokens=3)
    subject.engine.submit(request, sink)
    await sink.all_ended(request.first_key)

    assert places == {(threading.get_ident(), id(asyncio.get_running_loop()))}

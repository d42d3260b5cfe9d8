"""Aborts at any moment, around a model that computes nothing: silence, and no block left behind."""

import asyncio
import random

import pytest

from headrace.common.v1.finish_pb2 import FINISH_REASON_LENGTH
from tests.support.event_sinks import CollectingSink
from tests.unit.worker.openvino.conftest import Start, is_whole
from tests.unit.worker.openvino.fakes import (
    make_request,
)


@pytest.mark.parametrize("steps", [0, 1, 3, 5])
async def test_an_abort_frees_after_the_running_iteration(start: Start, steps: int) -> None:
    """In prefill (three steps) or decoding: the step that runs is the last to hold its blocks."""
    one = await start(max_batch_tokens=32)
    one.hold()
    one.engine.submit(make_request(0, [5] * 70, max_tokens=100), one.sink)
    await one.is_held()
    for _ in range(steps):
        one.runner.gate.let_one_pass()
        await one.is_held()
    one.engine.abort(one.sink, [0])
    one.engine.submit(make_request(1, (9,), max_tokens=1), one.sink)
    one.runner.gate.let_one_pass()
    await one.is_held()

    load = one.engine.load
    assert (load.referenced_blocks, is_whole(load)) == (0, True)
    assert 0 not in one.sink.ended
    assert one.runner.steps == steps + 1


async def test_an_abort_in_the_queue_leaves_nothing(start: Start) -> None:
    """A waiting output leaves the queue in the iteration that is running, and is never fed."""
    one = await start(max_num_sequences=1)
    one.hold()
    for key in range(3):
        one.engine.submit(make_request(key, max_tokens=2), one.sink)
    await one.is_held()
    one.engine.abort(one.sink, [1])
    one.runner.gate.let_one_pass()
    await one.is_held()
    queued = one.engine.load.queued_outputs
    one.release()
    await one.sink.all_ended(0, 2)

    assert queued == 1
    assert one.sink.token_ids.keys() == {0, 2}


async def test_an_aborted_output_is_silent_from_the_next_iteration(start: Start) -> None:
    """What the running step draws for an aborted output is not emitted."""
    one = await start()
    one.hold()
    one.engine.submit(make_request(0, (5,), max_tokens=100), one.sink)
    await one.is_held()
    one.engine.abort(one.sink, [0])
    other = CollectingSink()
    one.engine.submit(make_request(1, (9,), max_tokens=2), other)
    one.release()
    await other.all_ended(1)

    assert one.sink.started == {}
    assert one.sink.token_ids == {}


async def test_aborting_what_is_unknown_or_ended_does_nothing(start: Start) -> None:
    """Ended keys, unknown keys and unknown sinks are ignored."""
    one = await start()
    one.engine.submit(make_request(0), one.sink)
    await one.sink.all_ended(0)
    one.engine.abort(one.sink, [0, 5])
    one.engine.abort(CollectingSink(), [0])
    one.engine.submit(make_request(1), one.sink)
    await one.sink.all_ended(1)

    assert len(one.sink.token_ids[1]) == 4


async def test_many_random_aborts_leave_no_block_behind(start: Start) -> None:
    """After 200 aborts at random moments a request of the whole pool's size succeeds."""
    one = await start(num_blocks=32)
    chance = random.Random(3)
    for key in range(200):
        prompt = [chance.randrange(60) for _ in range(chance.randrange(1, 60))]
        one.engine.submit(make_request(key, prompt, max_tokens=50), one.sink)
        if chance.random() < 0.5:
            await asyncio.sleep(0)
        for victim in {chance.randrange(key + 1), key - 5}:
            one.engine.abort(one.sink, [victim])
        assert is_whole(one.engine.load)
    one.engine.abort(one.sink, range(200))
    one.engine.submit(make_request(500, [7] * 100, max_tokens=29), one.sink)
    await one.sink.all_ended(500)

    assert one.sink.ended[500].finish_reason == FINISH_REASON_LENGTH
    assert one.engine.load.referenced_blocks == 0
    assert is_whole(one.engine.load)


@pytest.mark.parametrize("victims", [[0], [1, 2], [0, 1, 3]])
@pytest.mark.parametrize("steps", [0, 1, 3, 4])
async def test_outputs_outlive_the_others(start: Start, steps: int, victims: list[int]) -> None:
    """In whatever state some outputs of a request are aborted, the others get to their end."""
    one = await start(max_batch_tokens=32)
    one.hold()
    one.engine.submit(make_request(0, [5] * 70, max_tokens=4, n=4), one.sink)
    await one.is_held()
    for _ in range(steps):
        one.runner.gate.let_one_pass()
        await one.is_held()
    one.engine.abort(one.sink, victims)
    one.release()
    left = sorted({0, 1, 2, 3} - set(victims))
    await one.sink.all_ended(*left)

    assert [one.sink.token_ids[key] for key in left] == [[6, 7, 8, 9]] * len(left)
    assert not one.sink.ended.keys() & set(victims)
    load = one.engine.load
    assert (load.referenced_blocks, load.queued_outputs, is_whole(load)) == (0, 0, True)

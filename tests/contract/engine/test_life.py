"""Order in the queue, and the end of an engine."""

import asyncio

import pytest

from headrace.common.v1 import errors_pb2
from headrace.rpc.errors import ServiceError
from tests.contract.engine.subject import Subject, TimedSink

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_priority_goes_first(narrow: Subject) -> None:
    """Of those that wait the one of higher priority gets the next place; equals keep order."""
    sink = TimedSink()
    running = narrow.request(max_tokens=20, ignore_eos=True)
    waiting = [narrow.request(max_tokens=2, priority=priority) for priority in (0, 5, 0)]
    narrow.engine.submit(running, sink)
    await sink.has_tokens(running.first_key)
    for request in waiting:
        narrow.engine.submit(request, sink)
    first, urgent, second = (request.first_key for request in waiting)
    await sink.all_ended(first, urgent, second)

    assert list(sink.started) == [running.first_key, urgent, first, second]


async def test_stop_ends_what_runs_and_what_waits(subject: Subject) -> None:
    """Before `stop` returns, each output has exactly one end, as draining; nothing is taken."""
    assert subject.fresh is not None
    async with subject.fresh() as other:
        failing = asyncio.create_task(other.engine.failed())
        sink = TimedSink()
        requests = [other.request(n=2, max_tokens=100, ignore_eos=True) for _ in range(3)]
        for request in requests:
            other.engine.submit(request, sink)
        await sink.has_tokens(requests[0].first_key, 2)
        last = other.request(max_tokens=100)
        other.engine.submit(last, sink)
        await other.engine.stop()
        reasons = [ended.error.reason for ended in sink.ended.values() if ended.error]
        with pytest.raises(ServiceError) as refused:
            other.engine.submit(other.request(), sink)

        assert len(sink.ended) == len(reasons) == 7
        assert set(reasons) == {errors_pb2.ERROR_REASON_DRAINING}
        assert refused.value.reason == errors_pb2.ERROR_REASON_DRAINING
        assert sink.violations == []
        assert not failing.done(), "a stop is no failure"
        failing.cancel()


async def test_info_is_whole(subject: Subject) -> None:
    """Sizes are positive, end tokens are tokens, and the fingerprint names the engine."""
    info = subject.engine.info

    assert min(info.context_length, info.block_size, info.max_outputs) > 0
    assert info.end_token_ids
    assert max(info.end_token_ids) < info.vocabulary_size
    assert info.engine in info.system_fingerprint

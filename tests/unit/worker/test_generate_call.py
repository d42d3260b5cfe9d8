"""A Generate call whose caller takes nothing: what waits for it is bounded."""

import asyncio

import pytest

from headrace.access.grpc_authentication import KeyGate
from headrace.common.v1 import errors_pb2
from headrace.rpc.errors import ServiceError
from headrace.rpc.limits import MAX_PENDING_TOKENS
from headrace.worker.v1.generate_pb2 import GenerateResponse
from tests.support.engines import ScriptedEngine
from tests.support.raw_attach import generation
from worker.active_requests import RequestTable
from worker.generate_call import GenerateCall
from worker.request_gate import RequestGate

BATCH = 50_000


@pytest.mark.parametrize(("logprobs", "most"), [(None, MAX_PENDING_TOKENS), (4, 200_000)])
async def test_a_caller_who_takes_nothing_is_refused_the_rest(
    logprobs: int | None, most: int
) -> None:
    """The engine is told at once; tokens with alternatives count as what they hold."""
    engine = ScriptedEngine()
    table = RequestTable()
    is_writing, may_write = asyncio.Event(), asyncio.Event()

    async def write(_response: GenerateResponse) -> None:
        is_writing.set()
        await may_write.wait()

    call = GenerateCall(engine, table, RequestGate(KeyGate(), "", 1))
    running = asyncio.create_task(call.run(generation(logprobs=logprobs), write))
    while not engine.submitted:  # noqa: ASYNC110 (an engine tells nobody)
        await asyncio.sleep(0)
    engine.start_output(0)
    await is_writing.wait()
    for _ in range(most // BATCH):
        engine.emit(0, *[1] * BATCH)
    before = list(engine.aborted)
    engine.emit(0, 1)
    may_write.set()
    with pytest.raises(ServiceError) as caught:
        await running

    assert (before, engine.aborted) == ([], [0])
    assert caught.value.reason == errors_pb2.ERROR_REASON_OVERLOADED
    assert table.num_running == 0

"""Generate: the simple form of a request, with the meaning that it has in Attach."""

import asyncio
from collections.abc import AsyncIterator

import grpc
import pytest
import structlog

from headrace.common.v1 import errors_pb2
from headrace.common.v1.finish_pb2 import FINISH_REASON_LENGTH, FINISH_REASON_STOP
from headrace.rpc.errors import ServiceError, error_from_rpc
from headrace.worker.v1.generate_pb2 import GenerateRequest, GenerateResponse
from headrace.worker.v1.model_pb2 import GetModelRequest
from tests.support.engines import ScriptedEngine
from tests.support.models import END_TOKEN, fake_model
from tests.support.raw_attach import RunningWorker, generation, running_worker
from worker.engine.paced import PacedEngine
from worker.engine.paced_settings import PacedSettings

QUICK = PacedSettings(tokens_per_second=2000)


class NoticingEngine(ScriptedEngine):
    """Sets an event when an output is aborted."""

    def __init__(self) -> None:
        super().__init__()
        self.has_abort = asyncio.Event()

    def abort(self, sink, keys) -> None:  # noqa: ANN001 (as the seam's)
        super().abort(sink, keys)
        self.has_abort.set()


async def responses(call: AsyncIterator[GenerateResponse]) -> list[GenerateResponse]:
    """The whole stream."""
    return [response async for response in call]


async def failure(worker: RunningWorker, request: GenerateRequest, **call: object) -> ServiceError:
    """What a Generate call fails with."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await responses(worker.stub.Generate(request, **call))
    return error_from_rpc(caught.value, peer="worker")


async def test_events_come_in_order_with_one_terminal_an_output() -> None:
    """Started before tokens, tokens as deltas, then exactly one terminal, for each of n outputs."""
    async with running_worker(PacedEngine(fake_model(), QUICK)) as worker:
        request = GenerateRequest(request=generation(n=2, max_tokens=5, logprobs=1))
        events = await responses(worker.stub.Generate(request))

    for index in range(2):
        own = [e for e in events if getattr(e, e.WhichOneof("event")).handle == index]
        kinds = [e.WhichOneof("event") for e in own]
        assert ["started", *["tokens"] * (len(kinds) - 2), "terminal"] == kinds
        assert 5 == sum(len(e.tokens.token_ids) for e in own)
        assert 5 == sum(len(e.tokens.logprobs.logprobs) for e in own)
        assert FINISH_REASON_LENGTH == own[-1].terminal.finish_reason
        assert 3 == own[0].started.prompt_tokens


async def test_the_end_token_is_the_last_id_and_named() -> None:
    """An end token is among the ids and in the terminal."""
    engine = PacedEngine(fake_model(), PacedSettings(tokens_per_second=2000, script="echo"))
    async with running_worker(engine) as worker:
        events = await responses(worker.stub.Generate(GenerateRequest(request=generation())))

    ids = [token for event in events for token in event.tokens.token_ids]
    assert [5, 6, 7, END_TOKEN] == ids
    assert END_TOKEN == events[-1].terminal.stop_token_id
    assert FINISH_REASON_STOP == events[-1].terminal.finish_reason


async def test_cancelling_the_call_aborts_the_request() -> None:
    """A caller that cancels frees the engine and the table."""
    engine = NoticingEngine()
    async with running_worker(engine) as worker:
        call = worker.stub.Generate(GenerateRequest(request=generation(n=2)))
        await asyncio.wait([asyncio.ensure_future(engine.has_request.wait())], timeout=5)
        call.cancel()
        await asyncio.wait_for(engine.has_abort.wait(), 5)
        await asyncio.wait_for(worker.servicer.table.idle(), 5)
        load = (await worker.stub.GetModel(GetModelRequest())).load

    assert [0, 1] == engine.aborted
    assert (0, 2) == (load.running_requests, load.aborted_outputs)


@pytest.mark.parametrize("way", ["grpc", "field"])
async def test_the_deadline_ends_the_request(way: str) -> None:
    """The gRPC timeout and remaining_ms both end a request that the engine leaves silent."""
    engine = NoticingEngine()
    async with running_worker(engine) as worker:
        if way == "grpc":
            error = await failure(worker, GenerateRequest(request=generation()), timeout=0.5)
        else:
            error = await failure(worker, GenerateRequest(request=generation(remaining_ms=50)))
        await asyncio.wait_for(worker.servicer.table.idle(), 5)

    assert errors_pb2.ERROR_REASON_DEADLINE_EXCEEDED == error.reason
    assert [0] == engine.aborted


async def test_the_smaller_of_both_deadlines_holds() -> None:
    """A long gRPC timeout does not lengthen the request's own remaining time."""
    engine = NoticingEngine()
    async with running_worker(engine) as worker:
        request = GenerateRequest(request=generation(remaining_ms=30))
        error = await asyncio.wait_for(failure(worker, request, timeout=50), 5)

    assert errors_pb2.ERROR_REASON_DEADLINE_EXCEEDED == error.reason
    assert "time ran out" in error.message


@pytest.mark.parametrize(
    ("fields", "reason", "param"),
    [
        ({"prompt_token_ids": []}, errors_pb2.ERROR_REASON_INVALID_REQUEST, "prompt_token_ids"),
        ({"model": "other"}, errors_pb2.ERROR_REASON_MODEL_NOT_FOUND, "model"),
        ({"max_tokens": 9999}, errors_pb2.ERROR_REASON_CONTEXT_LENGTH_EXCEEDED, "max_tokens"),
    ],
)
async def test_a_refusal_is_the_status_with_error_info(
    fields: dict[str, object], reason: int, param: str
) -> None:
    """A request that cannot be served ends with its reason, message and parameter."""
    async with running_worker(ScriptedEngine()) as worker:
        error = await failure(worker, GenerateRequest(request=generation(**fields)))

    assert (reason, param) == (error.reason, error.param)
    assert error.message


async def test_a_very_long_name_does_not_break_the_status() -> None:
    """A message that quotes a long value is cut: the reason still arrives, by name."""
    async with running_worker(ScriptedEngine()) as worker:
        error = await failure(worker, GenerateRequest(request=generation(model="ü" * 100_000)))
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await worker.stub.GetModel(GetModelRequest(model="ü" * 100_000))

    assert errors_pb2.ERROR_REASON_MODEL_NOT_FOUND == error.reason
    assert error.message.endswith("…")
    assert grpc.StatusCode.NOT_FOUND == caught.value.code()


async def test_a_failure_of_the_engine_is_the_status() -> None:
    """What came before is delivered, then the status names the failure; the rest is aborted."""
    engine = NoticingEngine()
    async with running_worker(engine) as worker:
        call = worker.stub.Generate(GenerateRequest(request=generation(n=2)))
        waiting = asyncio.ensure_future(engine.has_request.wait())
        reading = asyncio.ensure_future(call.read())
        await waiting
        engine.start_output(0)
        engine.emit(0, 11)
        engine.fail(0, ServiceError(errors_pb2.ERROR_REASON_ENGINE_FAILURE, "broken"))
        first = await reading
        second = await call.read()
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call.read()
        error = error_from_rpc(caught.value, peer="worker")
        await asyncio.wait_for(worker.servicer.table.idle(), 5)

    assert first.HasField("started")
    assert [11] == list(second.tokens.token_ids)
    assert (errors_pb2.ERROR_REASON_ENGINE_FAILURE, "broken") == (error.reason, error.message)
    assert [1] == engine.aborted


async def test_a_request_that_the_engine_refuses_was_never_aborted() -> None:
    """A full engine's refusal is the status; nothing is counted or logged as cancelled."""
    engine = ScriptedEngine()
    engine.refusal = ServiceError(errors_pb2.ERROR_REASON_OVERLOADED, "full")
    with structlog.testing.capture_logs() as logs:
        async with running_worker(engine) as worker:
            error = await failure(worker, GenerateRequest(request=generation()))
            load = (await worker.stub.GetModel(GetModelRequest())).load

    ended = next(entry for entry in logs if entry["event"] == "request_ended")
    assert errors_pb2.ERROR_REASON_OVERLOADED == error.reason
    assert ["overloaded"] == ended["outcomes"]
    assert (0, 0) == (load.running_requests, load.aborted_outputs)
    assert [] == engine.aborted


TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736"
TRACEPARENT = f"00-{TRACE_ID}-00f067aa0ba902b7-01"


@pytest.mark.parametrize("place", ["metadata", "field"])
async def test_trace_context_comes_from_the_request_or_the_metadata(place: str) -> None:
    """The request's own traceparent, or else the metadata's, is in the canonical line."""
    metadata = (
        ("traceparent", TRACEPARENT if place == "metadata" else f"00-{'1' * 32}-{'2' * 16}-01"),
    )
    request = generation(traceparent=TRACEPARENT if place == "field" else "")
    with structlog.testing.capture_logs() as logs:
        async with running_worker(PacedEngine(fake_model(), QUICK)) as worker:
            await responses(
                worker.stub.Generate(GenerateRequest(request=request), metadata=metadata)
            )

    ended = next(entry for entry in logs if entry["event"] == "request_ended")
    assert TRACE_ID == ended["trace_id"]


async def test_a_requests_own_trace_has_nothing_of_the_metadatas() -> None:
    """Another trace's state does not become the one of the request's own trace."""
    engine = NoticingEngine()
    async with running_worker(engine) as worker:
        call = worker.stub.Generate(
            GenerateRequest(request=generation(traceparent=TRACEPARENT)),
            metadata=(("traceparent", f"00-{'1' * 32}-{'2' * 16}-01"), ("tracestate", "a=b")),
        )
        await engine.has_request.wait()
        trace = engine.submitted[0][0].trace
        call.cancel()

    assert (TRACEPARENT, "") == (trace.traceparent, trace.tracestate)


async def test_what_is_malformed_in_the_metadata_is_ignored() -> None:
    """Such a trace costs no answer; in the field of the request it is refused."""
    engine = NoticingEngine()
    state = "x" * 600
    async with running_worker(engine) as worker:
        call = worker.stub.Generate(
            GenerateRequest(request=generation()),
            metadata=(("traceparent", TRACEPARENT), ("tracestate", state)),
        )
        await engine.has_request.wait()
        trace = engine.submitted[0][0].trace
        call.cancel()
        error = await failure(worker, GenerateRequest(request=generation(tracestate=state)))

    assert (TRACEPARENT, "") == (trace.traceparent, trace.tracestate)
    assert "tracestate" == error.param


async def test_a_draining_worker_refuses_generate_and_ends_what_runs() -> None:
    """What runs is finished; a new call is refused as DRAINING."""
    engine = NoticingEngine()
    async with running_worker(engine) as worker:
        call = worker.stub.Generate(GenerateRequest(request=generation()))
        running = asyncio.create_task(responses(call))
        await engine.has_request.wait()
        worker.servicer.drain()
        error = await failure(worker, GenerateRequest(request=generation()))
        engine.start_output(0)
        engine.emit(0, 11)
        engine.finish(0)
        events = await running

    assert errors_pb2.ERROR_REASON_DRAINING == error.reason
    assert events[-1].HasField("terminal")

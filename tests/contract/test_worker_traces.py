"""A request's spans at the worker: parents, phases, times, and where a failure lands."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
import pytest
import structlog

from headrace.common.v1 import errors_pb2
from headrace.common.v1.finish_pb2 import FINISH_REASON_STOP
from headrace.rpc.errors import ServiceError
from headrace.telemetry.names import GENERATE_METHOD
from headrace.telemetry.spans import SpanKind
from headrace.worker.v1.generate_pb2 import GenerateRequest
from tests.support.engines import ScriptedEngine
from tests.support.models import fake_model
from tests.support.raw_attach import RawAttach, RunningWorker, generation, running_worker
from tests.support.span_recorder import RecordedSpan, SpanRecorder
from worker.engine.paced import PacedEngine
from worker.engine.paced_settings import PacedSettings
from worker.engine.seam import Engine
from worker.request_report import RequestReports

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = "00f067aa0ba902b7"
TRACEPARENT = f"00-{TRACE}-{PARENT}-01"
BROKEN = ServiceError(errors_pb2.ERROR_REASON_ENGINE_FAILURE, "broken")
LATE = ("deadline_exceeded", "DEADLINE_EXCEEDED")
LEFT = ("client_cancelled", "CANCELLED")
PHASES = ["queue", "prefill", "decode"]


def paced(**settings: Any) -> PacedEngine:
    """A quick engine that takes a while for a prompt."""
    values = {"tokens_per_second": 500, "prefill_tokens_per_second": 200, **settings}
    return PacedEngine(fake_model(), PacedSettings(**values))


class Told:
    """A worker whose spans are kept."""

    def __init__(self, engine: Engine) -> None:
        self.recorder = SpanRecorder()
        self.serving = running_worker(engine, reports=RequestReports(self.recorder))

    @property
    def server(self) -> RecordedSpan:
        """The request's span, of which there must be one."""
        (span,) = self.recorder.named(GENERATE_METHOD)
        return span

    @property
    def phases(self) -> list[RecordedSpan]:
        """Its children, in time."""
        return sorted(self.recorder.children(self.server), key=lambda span: span.start_ns)

    def check_times(self) -> None:
        """Everything has ended; the phases adjoin, inside the parent, from its very beginning."""
        assert [] == self.recorder.unended
        begin = self.server.start_ns
        for phase in self.phases:
            assert phase.start_ns == begin
            assert phase.end_ns is not None
            begin = phase.end_ns
            assert SpanKind.INTERNAL == phase.kind
        assert self.server.end_ns is not None
        assert self.server.end_ns >= begin

    def check_failure(self, reason: str, status: str, *phases: str) -> None:
        """The request and the last of these phases failed, and there are no others."""
        self.check_times()
        assert [*phases] == [phase.name for phase in self.phases]
        errors = [phase.error and phase.error[0] for phase in self.phases]
        assert [None] * (len(phases) - 1) + [reason] * bool(phases) == errors
        assert self.server.error is not None
        assert reason == self.server.error[0]
        assert status == self.server.attributes["rpc.response.status_code"]


async def attach(worker: RunningWorker, **fields: Any) -> None:
    """A request on a shared stream, to its end."""
    edge = RawAttach(worker.stub)
    await edge.submit(1, generation(traceparent=TRACEPARENT, **fields))
    await edge.read_until("terminals", fields.get("n", 1))
    await edge.call.done_writing()
    await edge.read_to_end()


async def generate(worker: RunningWorker, **fields: Any) -> None:
    """A direct call, to its end."""
    request = GenerateRequest(request=generation(**fields))
    call = worker.stub.Generate(request, metadata=(("traceparent", TRACEPARENT),))
    assert [response async for response in call]


@pytest.mark.parametrize("call", [attach, generate])
@pytest.mark.parametrize("n", [1, 2])
async def test_a_request_has_one_span_with_three_phases(
    call: Callable[..., Awaitable[None]], n: int
) -> None:
    """Below the caller's span: queue, prefill, decode, of all outputs together."""
    told = Told(paced())
    async with told.serving as worker:
        await call(worker, n=n)
        await worker.servicer.table.idle()

    told.check_times()
    server, (queue, prefill, decode) = told.server, told.phases
    assert (SpanKind.SERVER, TRACE, PARENT) == (server.kind, server.trace_id, server.parent_id)
    assert {
        "rpc.system.name": "grpc",
        "rpc.method": GENERATE_METHOD,
        "rpc.response.status_code": "OK",
        "headrace.request.id": "r1",
        "headrace.outputs": n,
        "headrace.outcomes": ("length",) * n,
    } == server.attributes
    assert PHASES == [queue.name, prefill.name, decode.name]
    assert {} == queue.attributes
    computed = {"headrace.prefill.cached_tokens": 0, "headrace.prefill.computed_tokens": 3}
    assert computed == prefill.attributes
    assert {"headrace.decode.output_tokens": 9 * n} == decode.attributes
    assert all(span.error is None for span in told.recorder.spans)
    assert prefill.end_ns is not None
    assert prefill.end_ns - prefill.start_ns >= 3 / 200 * 1e9
    assert decode.end_ns is not None
    assert decode.end_ns > decode.start_ns


async def test_a_caller_without_a_trace_begins_one() -> None:
    """The span is the first of its trace, and the phases belong to it."""
    told = Told(paced())
    async with told.serving as worker:
        request = GenerateRequest(request=generation())
        assert [response async for response in worker.stub.Generate(request)]

    assert "" == told.server.parent_id
    assert {told.server.trace_id} == {span.trace_id for span in told.recorder.spans}
    assert PHASES == [phase.name for phase in told.phases]


async def test_the_engine_is_told_the_workers_own_span() -> None:
    """What an engine traces is below the worker's span, not beside it."""
    engine = ScriptedEngine()
    told = Told(engine)
    async with told.serving as worker:
        edge = RawAttach(worker.stub)
        await edge.submit(1, generation(traceparent=TRACEPARENT, tracestate="a=b"))
        await edge.read_until("accepted_handles")
        (request, _sink) = engine.submitted[0]
        edge.call.cancel()
        await worker.servicer.table.idle()

    assert f"00-{TRACE}-{told.server.span_id}-01" == request.trace.traceparent
    assert "a=b" == request.trace.tracestate


def advance(engine: ScriptedEngine, stage: str, key: int) -> None:
    """Bring an output into a phase."""
    if stage in ("prefill", "decode"):
        engine.feed(key)
    if stage == "decode":
        engine.start_output(key)
        engine.emit(key, 7, 8)


STAGES = pytest.mark.parametrize(
    ("stage", "phases"), [(s, PHASES[: i + 1]) for i, s in enumerate(PHASES)]
)


@STAGES
@pytest.mark.parametrize("how", ["abort", "stream", "deadline", "failure"])
async def test_a_failure_lands_on_the_phase_that_was_active(
    stage: str, phases: list[str], how: str
) -> None:
    """Aborted, its edge gone, late, or failed by the engine: in each phase on a shared stream."""
    engine = ScriptedEngine()
    told = Told(engine)
    async with told.serving as worker:
        edge = RawAttach(worker.stub)
        remaining = {"remaining_ms": 200} if how == "deadline" else {}
        await edge.submit(5, generation(traceparent=TRACEPARENT, **remaining))
        await edge.read_until("accepted_handles")
        advance(engine, stage, 5)
        if how == "abort":
            await edge.abort(5)
        elif how == "stream":
            edge.call.cancel()
        elif how == "failure":
            engine.fail(5, BROKEN)
        await asyncio.wait_for(worker.servicer.table.idle(), 10)

    reason, status = {
        "abort": LEFT,
        "stream": ("edge_lost", "CANCELLED"),
        "deadline": LATE,
        "failure": ("engine_failure", "INTERNAL"),
    }[how]
    told.check_failure(reason, status, *phases)
    if stage == "decode":
        assert 2 == told.phases[-1].attributes["headrace.decode.output_tokens"]


@STAGES
@pytest.mark.parametrize("how", ["cancel", "deadline", "failure"])
async def test_a_failure_of_a_direct_call_lands_on_the_active_phase(
    stage: str, phases: list[str], how: str
) -> None:
    """Cancelled, late by its own gRPC deadline, or failed by the engine: in each phase."""
    engine = ScriptedEngine()
    told = Told(engine)
    async with told.serving as worker:
        call = worker.stub.Generate(
            GenerateRequest(request=generation()), timeout=1 if how == "deadline" else None
        )
        reading = asyncio.create_task(call.read())
        await engine.has_request.wait()
        advance(engine, stage, 0)
        if how == "cancel":
            call.cancel()
        elif how == "failure":
            engine.fail(0, BROKEN)
        await asyncio.wait_for(worker.servicer.table.idle(), 10)
        await asyncio.gather(reading, return_exceptions=True)
        call.cancel()

    reason, status = {
        "cancel": LEFT,
        "deadline": LATE,
        "failure": ("engine_failure", "INTERNAL"),
    }[how]
    told.check_failure(reason, status, *phases)


@pytest.mark.parametrize("way", ["attach", "generate"])
async def test_what_a_worker_does_not_wait_for_ends_with_it(way: str) -> None:
    """A request that outlives the grace of a shutdown was not cancelled by its caller."""
    engine = ScriptedEngine()
    told = Told(engine)
    async with told.serving as worker:
        if way == "attach":
            edge = RawAttach(worker.stub)
            await edge.submit(5)
            await edge.read_until("accepted_handles")
        else:
            call = worker.stub.Generate(GenerateRequest(request=generation()))
            reading = asyncio.create_task(call.read())
            await engine.has_request.wait()
        worker.servicer.drain()
        worker.servicer.table.is_closing = True
        await worker.server.stop(0)
        await asyncio.wait_for(worker.servicer.table.idle(), 10)
        if way == "generate":
            await asyncio.gather(reading, return_exceptions=True)

    told.check_failure("draining", "UNAVAILABLE", "queue")


@pytest.mark.parametrize("call", [attach, generate])
@pytest.mark.parametrize("fault", ["request", "engine", "draining"])
async def test_a_refused_request_has_a_span_and_no_phase(
    call: Callable[..., Awaitable[None]], fault: str
) -> None:
    """Refused for what it asks, by a full engine, or by a worker that ends."""
    engine = ScriptedEngine()
    told = Told(engine)
    engine.refusal = ServiceError(errors_pb2.ERROR_REASON_OVERLOADED, "full")
    async with told.serving as worker:
        if fault == "draining":
            worker.servicer.drain()
        fields = {"max_tokens": 0} if fault == "request" else {}
        if call is attach:
            await attach(worker, **fields)
        else:
            with pytest.raises(grpc.aio.AioRpcError):
                await generate(worker, **fields)

    reason, status = {
        "request": ("invalid_request", "INVALID_ARGUMENT"),
        "engine": ("overloaded", "RESOURCE_EXHAUSTED"),
        "draining": ("draining", "UNAVAILABLE"),
    }[fault]
    told.check_failure(reason, status)


async def test_what_a_caller_sent_is_not_in_a_spans_message() -> None:
    """A refusal's words may quote the request: the span has its reason alone."""
    told = Told(ScriptedEngine())
    async with told.serving as worker:
        await attach(worker, model="my-secret")

    assert ("model_not_found", "") == told.server.error


async def test_what_is_refused_has_bounded_attributes() -> None:
    """Ids and tenants are cut, though what they came from is refused for its length."""
    told = Told(ScriptedEngine())
    async with told.serving as worker:
        await attach(worker, request_id="r" * 10_000, cache_salt="tenant:" + "t" * 10_000)

    found = told.server.attributes
    assert ("r" * 128, "t" * 256) == (found["headrace.request.id"], found["headrace.tenant"])


async def test_one_failed_output_of_two_fails_the_request_in_decode() -> None:
    """The other's good end is among the outcomes; the first failure is the request's."""
    engine = ScriptedEngine()
    told = Told(engine)
    async with told.serving as worker:
        edge = RawAttach(worker.stub)
        await edge.submit(5, generation(n=2))
        await edge.read_until("accepted_handles", 2)
        advance(engine, "decode", 5)
        engine.finish(5)
        engine.fail(6, BROKEN)
        await edge.read_until("terminals", 2)

    told.check_failure("engine_failure", "INTERNAL", *PHASES)
    assert ("length", "engine_failure") == told.server.attributes["headrace.outcomes"]


@pytest.mark.parametrize(
    ("reason", "failure", "status", "cause"),
    [
        (errors_pb2.ERROR_REASON_UNSPECIFIED, None, "OK", "complete"),
        (errors_pb2.ERROR_REASON_DEADLINE_EXCEEDED, *LATE, "deadline"),
        (errors_pb2.ERROR_REASON_CLIENT_CANCELLED, *LEFT, "caller"),
        (errors_pb2.ERROR_REASON_SLOW_READER, "slow_reader", "CANCELLED", "slow_reader"),
        (errors_pb2.ERROR_REASON_EDGE_LOST, *LEFT, "caller"),
        (errors_pb2.ERROR_REASON_ENGINE_FAILURE, *LEFT, "caller"),
        (9999, *LEFT, "caller"),
    ],
)
async def test_why_an_output_is_aborted_is_told(
    reason: int, failure: str | None, status: str, cause: str
) -> None:
    """What a stop string completed is no failure; a deadline of the edge is one; the rest left."""
    engine = ScriptedEngine()
    told = Told(engine)
    async with told.serving as worker:
        edge = RawAttach(worker.stub)
        await edge.submit(5)
        await edge.submit(6, generation(traceparent=TRACEPARENT))
        await edge.read_until("accepted_handles", 2)
        advance(engine, "decode", 6)
        engine.finish(5)
        with structlog.testing.capture_logs() as logs:
            await edge.abort(6, 7, reasons=[reason, reason])
            frames = await edge.read_until("terminals", 2)
        strays = worker.servicer.table.stray_entries

    server = next(span for span in told.recorder.named(GENERATE_METHOD) if span.trace_id == TRACE)
    phases = sorted(told.recorder.children(server), key=lambda span: span.start_ns)
    assert PHASES == [phase.name for phase in phases]
    assert failure == (server.error and server.error[0])
    assert [None, None, failure] == [phase.error and phase.error[0] for phase in phases]
    assert status == server.attributes["rpc.response.status_code"]
    assert phases[-1].end_ns == server.end_ns
    assert cause == next(line["abort_cause"] for line in logs if line["event"] == "request_ended")
    terminal = frames[-1].terminals[-1]
    assert terminal.HasField("failure") == (failure is not None)
    assert terminal.finish_reason == (0 if failure else FINISH_REASON_STOP)
    assert strays == 1


async def test_reasons_must_be_as_many_as_handles() -> None:
    """Arrays of different lengths are a bug of the edge, and end the stream loudly."""
    async with running_worker(ScriptedEngine()) as worker:
        edge = RawAttach(worker.stub)
        await edge.submit(1)
        await edge.abort(1, reasons=[15, 15])
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await edge.read_to_end()

    assert "edge gave 2 reasons for 1 aborted handles" in (caught.value.details() or "")

"""The hook of unary calls over real gRPC: spans and ends tell the truth, however a call ends."""

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest

from headrace.access.grpc_authentication import KeyGate
from headrace.access.key_ring import KeyRing
from headrace.common.v1 import errors_pb2
from headrace.rpc.call_metadata import call_metadata
from headrace.rpc.errors import ServiceError
from headrace.rpc.served_calls import CallEnd, CallHook, ServedCall, served_call
from headrace.rpc.server import GrpcServer
from headrace.telemetry import names
from headrace.telemetry.spans import SpanKind
from headrace.telemetry.trace_context import TraceContext
from headrace.worker.v1.generate_pb2 import GenerateRequest, GenerateResponse
from headrace.worker.v1.model_pb2 import GetModelRequest, GetModelResponse
from headrace.worker.v1.service_pb2_grpc import (
    GenerationServiceServicer,
    GenerationServiceStub,
    add_GenerationServiceServicer_to_server,
)
from tests.support.keys import KEY, entry, write_keys
from tests.support.span_recorder import RecordedSpan, SpanRecorder

SERVICE = "headrace.worker.v1.GenerationService"
UNARY, STREAM = f"{SERVICE}/GetModel", f"{SERVICE}/Generate"
PARENT = TraceContext(f"00-{7:032x}-{9:016x}-01", "vendor=x")
SECRET = "the stack and the prompt"  # noqa: S105 (what no span may hold)
CANCELLED = CallEnd(grpc.StatusCode.CANCELLED, "client_cancelled")
EXPIRED = CallEnd(grpc.StatusCode.DEADLINE_EXCEEDED, "deadline_exceeded")

Behaviour = Callable[[grpc.aio.ServicerContext], Awaitable[Any]]


class Behaving(GenerationServiceServicer):
    """Both methods do what the test says."""

    def __init__(self, behaviour: Behaviour) -> None:
        self._behaviour = behaviour

    async def GetModel(  # noqa: N802 (gRPC's name)
        self, request: GetModelRequest, context: grpc.aio.ServicerContext
    ) -> GetModelResponse:
        await self._behaviour(context)
        return GetModelResponse(model="m")

    async def Generate(  # type: ignore[override] # noqa: N802 (gRPC's name; writes by context)
        self, request: GenerateRequest, context: grpc.aio.ServicerContext
    ) -> None:
        await self._behaviour(context)

    async def Attach(  # type: ignore[override] # noqa: N802 (gRPC's name)
        self, request_iterator: object, context: grpc.aio.ServicerContext
    ) -> None:
        raise AssertionError("nobody attaches")


class Watched:
    """A server whose calls are looked at, and what was seen."""

    def __init__(self) -> None:
        self.recorder = SpanRecorder()
        self.ends: asyncio.Queue[tuple[ServedCall, CallEnd]] = asyncio.Queue()
        self.methods = (UNARY, STREAM)
        self.stub: Any = None

    @property
    def span(self) -> RecordedSpan:
        """The only span."""
        (span,) = self.recorder.spans
        return span

    def on_end(self, call: ServedCall, end: CallEnd) -> None:
        assert call.span.end_ns is not None, "the owner is told after the span"  # type: ignore[attr-defined] # a recorded one
        self.ends.put_nowait((call, end))

    async def end(self) -> CallEnd:
        """How the next call ended; its span says the same."""
        _, end = await self.ends.get()
        assert self.span.attributes[names.RPC_STATUS] == end.code.name
        assert self.span.error == ((end.error_type, "") if end.error_type else None)
        return end


@asynccontextmanager
async def watched(
    behaviour: Behaviour, *, keys: KeyRing | None = None, methods: tuple[str, ...] = (UNARY, STREAM)
) -> AsyncIterator[Watched]:
    """Serve the behaviour."""
    seen = Watched()
    hook = CallHook(seen.recorder, methods, seen.on_end)
    gate = KeyGate(keys)
    server = GrpcServer("127.0.0.1", 0, [SERVICE], interceptors=[hook, *gate.interceptors])
    server.add(add_GenerationServiceServicer_to_server, Behaving(behaviour))
    await server.serve()
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
            await channel.channel_ready()
            seen.stub = GenerationServiceStub(channel)
            yield seen
    finally:
        await server.stop(0)


async def nothing(_context: grpc.aio.ServicerContext) -> None:
    """Do nothing."""


async def test_a_call_is_a_span_of_its_callers_trace() -> None:
    """Name, kind, parent and attributes; what the handler adds is there too."""

    async def adds(_context: grpc.aio.ServicerContext) -> None:
        served_call().attributes[names.REQUEST_MODEL] = "m"

    async with watched(adds) as seen:
        await seen.stub.GetModel(GetModelRequest(), metadata=call_metadata(PARENT, "req_1"))
        assert await seen.end() == CallEnd(grpc.StatusCode.OK)

    span = seen.span
    assert (span.name, span.kind) == (UNARY, SpanKind.SERVER)
    assert (span.trace_id, span.parent_id, span.state) == (f"{7:032x}", f"{9:016x}", "vendor=x")
    assert span.attributes == {
        "rpc.system.name": "grpc",
        "rpc.method": UNARY,
        "rpc.response.status_code": "OK",
        "headrace.request.id": "req_1",
        "gen_ai.request.model": "m",
    }


async def test_a_direct_caller_begins_its_own_trace() -> None:
    """Without metadata there is no parent and no request id."""
    async with watched(nothing) as seen:
        await seen.stub.GetModel(GetModelRequest())
        await seen.end()

    assert not seen.span.parent_id
    assert names.REQUEST_ID not in seen.span.attributes


async def test_handlers_write_through_the_servers_own_context() -> None:
    """Frames arrive in order and can be read one by one; the span is over with the last."""

    async def writes(context: grpc.aio.ServicerContext) -> None:
        assert type(context).__module__ == "grpc._cython.cygrpc"
        for _ in range(3):
            await context.write(GenerateResponse())

    async with watched(writes) as seen:
        call = seen.stub.Generate(GenerateRequest())
        messages = [await call.read() for _ in range(4)]
        assert await seen.end() == CallEnd(grpc.StatusCode.OK)

    assert messages == [GenerateResponse()] * 3 + [grpc.aio.EOF]


async def test_a_caller_that_breaks_off_a_stream_is_a_cancelled_call() -> None:
    """The span ends at once, not when somebody collects it."""

    async def writes_on(context: grpc.aio.ServicerContext) -> None:
        await context.write(GenerateResponse())
        await asyncio.Event().wait()

    async with watched(writes_on) as seen:
        call = seen.stub.Generate(GenerateRequest())
        async for _ in call:
            break
        call.cancel()

        assert await seen.end() == CANCELLED


async def test_a_callers_cancelled_task_is_a_cancelled_call_though_a_thread_works_on() -> None:
    """The span ends while the work that nobody waits for is still being done."""
    loop, begun, let_go = asyncio.get_running_loop(), asyncio.Event(), threading.Event()

    def work() -> None:
        loop.call_soon_threadsafe(begun.set)
        assert let_go.wait(20)

    async def works(_context: grpc.aio.ServicerContext) -> None:
        await asyncio.to_thread(work)

    async with watched(works) as seen:
        task = asyncio.ensure_future(_awaited(seen.stub.GetModel(GetModelRequest())))
        await begun.wait()
        task.cancel()
        end = await seen.end()
        let_go.set()
        await asyncio.gather(task, return_exceptions=True)

    assert end == CANCELLED


async def _awaited(call: Awaitable[Any]) -> Any:
    return await call


# On its way a timeout of 1.001 s becomes 1.01 s: its caller leaves before the server's deadline.
@pytest.mark.parametrize("seconds", [0.05, 1.001])
async def test_a_deadline_is_told_from_a_caller_who_leaves(seconds: float) -> None:
    """Both sides name it alike, though the caller's clock decides."""

    async def waits(_context: grpc.aio.ServicerContext) -> None:
        await asyncio.Event().wait()

    async with watched(waits) as seen:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await seen.stub.GetModel(GetModelRequest(), timeout=seconds)

        assert await seen.end() == EXPIRED
    assert caught.value.code() is EXPIRED.code


async def test_a_caller_who_leaves_long_before_the_deadline_has_left() -> None:
    """A deadline that is not over is not the reason."""
    begun = asyncio.Event()

    async def waits(_context: grpc.aio.ServicerContext) -> None:
        begun.set()
        await asyncio.Event().wait()

    async with watched(waits) as seen:
        call = seen.stub.GetModel(GetModelRequest(), timeout=30)
        await begun.wait()
        call.cancel()

        assert await seen.end() == CANCELLED


async def aborts(context: grpc.aio.ServicerContext) -> None:
    """End the call by gRPC's own means."""
    await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, SECRET)


async def refuses(_context: grpc.aio.ServicerContext) -> None:
    """Refuse it as our code does."""
    raise ServiceError(errors_pb2.ERROR_REASON_INVALID_REQUEST, SECRET, "messages")


async def crashes(_context: grpc.aio.ServicerContext) -> None:
    """Fail in a way that nobody thought of."""
    raise ZeroDivisionError(SECRET)


@pytest.mark.parametrize(
    ("behaviour", "expected"),
    [
        (aborts, CallEnd(grpc.StatusCode.RESOURCE_EXHAUSTED, "overloaded")),
        (refuses, CallEnd(grpc.StatusCode.INVALID_ARGUMENT, "invalid_request")),
        (crashes, CallEnd(grpc.StatusCode.INTERNAL, "engine_failure")),
    ],
)
@pytest.mark.parametrize("method", ["GetModel", "Generate"])
async def test_errors_are_what_the_caller_sees(
    behaviour: Behaviour, expected: CallEnd, method: str
) -> None:
    """One status on both sides, and nothing of any message in the span."""
    async with watched(behaviour) as seen:
        unary = method == "GetModel"
        call = seen.stub.GetModel(GetModelRequest()) if unary else None
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await (call or seen.stub.Generate(GenerateRequest()).read())

        assert await seen.end() == expected
    assert caught.value.code() is expected.code
    assert SECRET not in repr(seen.span)
    assert not seen.span.events


async def test_a_call_that_its_key_does_not_admit_is_seen(tmp_path: Any) -> None:
    """Keys are looked at inside of the hook."""
    keys = KeyRing(write_keys(tmp_path / "keys.toml", entry(KEY)))
    async with watched(nothing, keys=keys) as seen:
        with pytest.raises(grpc.aio.AioRpcError):
            await seen.stub.GetModel(GetModelRequest())

        assert await seen.end() == CallEnd(grpc.StatusCode.UNAUTHENTICATED, "invalid_api_key")


async def test_other_methods_are_left_alone() -> None:
    """What is not named has no span, and its handler finds a call that is nobody's."""
    found = []

    async def looks(_context: grpc.aio.ServicerContext) -> None:
        found.append(served_call())

    async with watched(looks, methods=(STREAM,)) as seen:
        await seen.stub.GetModel(GetModelRequest())

    assert not seen.recorder.spans
    assert seen.ends.empty()
    assert [call.method for call in found] == [""]

"""The status of a stream that a server refuses unread, over real gRPC."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import pytest

from headrace.access.grpc_authentication import KeyGate
from headrace.access.key_ring import KeyRing
from headrace.common.v1 import errors_pb2
from headrace.rpc.end_status import EndStatus
from headrace.rpc.errors import error_from_rpc
from headrace.rpc.frame_stream import FrameStream, StreamLostError
from headrace.rpc.limits import MERGE_BYTES, FrameTiming
from headrace.rpc.outbox import RollingOutbox
from headrace.rpc.server import GrpcServer
from headrace.runtime.identity import Identity
from headrace.worker.v1.attach_pb2 import AttachRequest, AttachResponse
from headrace.worker.v1.service_pb2_grpc import (
    GenerationServiceServicer,
    GenerationServiceStub,
    add_GenerationServiceServicer_to_server,
)
from tests.support.keys import KEY, entry, write_keys

# Of so many streams gRPC overwrites the status of most.
TRIES = 10


class FullOutbox(RollingOutbox[AttachRequest]):
    """Frames of which one is being written when the refusal comes."""

    def __init__(self) -> None:
        super().__init__(AttachRequest)
        for handle in range(5):
            self._room_for(MERGE_BYTES).aborted_handles.append(handle)


class Ending(GenerationServiceServicer):
    """Attach is over at once."""

    async def Attach(  # type: ignore[override] # noqa: N802 (gRPC's name; writes by context)
        self, request_iterator: object, context: grpc.aio.ServicerContext
    ) -> None:
        """Say nothing."""

    async def Generate(  # type: ignore[override] # noqa: N802 (gRPC's name)
        self, request: object, context: object
    ) -> None:
        raise AssertionError("nobody generates")

    async def GetModel(self, request: object, context: object) -> None:  # type: ignore[override] # noqa: N802 (gRPC's name)
        raise AssertionError("nobody asks")


@asynccontextmanager
async def serving(keys: KeyRing | None = None) -> AsyncIterator[GenerationServiceStub]:
    """A server, and a client of it without a key."""
    interceptors = KeyGate(keys).interceptors
    server = GrpcServer("127.0.0.1", 0, [], interceptors=interceptors)
    server.add(add_GenerationServiceServicer_to_server, Ending())
    await server.serve()
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
            await channel.channel_ready()
            yield GenerationServiceStub(channel)
    finally:
        await server.stop(0)


async def lost(call: grpc.aio.StreamStreamCall) -> StreamLostError:
    """How a stream over the call is lost."""
    stream: FrameStream[AttachResponse, AttachRequest] = FrameStream(
        call, FullOutbox(), print, Identity(), peer="worker w", timing=FrameTiming()
    )
    stream.told = EndStatus(call).told
    with pytest.raises(StreamLostError) as caught:
        await stream.run()
    return caught.value


async def test_a_refused_stream_names_the_refusal_whatever_was_being_written(
    tmp_path: Path,
) -> None:
    """The key is named each time, also where the write failed first; the cause says it too."""
    keys = KeyRing(write_keys(tmp_path / "keys.toml", entry(KEY)))
    async with serving(keys) as stub:
        errors = [await lost(stub.Attach()) for _ in range(TRIES)]

    assert {str(error).partition(". ")[0] for error in errors} == {
        "worker w: UNAUTHENTICATED: You didn't provide an API key"
    }
    for error in errors:
        assert isinstance(error.__cause__, grpc.aio.AioRpcError)
        reason = error_from_rpc(error.__cause__, peer="").reason
        assert reason == errors_pb2.ERROR_REASON_INVALID_API_KEY


async def test_a_call_that_ended_well_explains_no_error() -> None:
    """Then the error is told as it is."""
    ended = asyncio.Event()
    async with serving() as stub:
        call = stub.Attach()
        status = EndStatus(call)
        call.add_done_callback(lambda _: ended.set())
        assert await call.read() is grpc.aio.EOF
        await ended.wait()
        error = asyncio.InvalidStateError("finished")

        assert status.told(error) is error

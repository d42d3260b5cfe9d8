"""A hand-driven edge on Attach: every frame is the test's own, numbering included."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

import grpc

from headrace.access.grpc_authentication import KeyGate
from headrace.access.key_ring import KeyRing
from headrace.rpc.bearer import OwnKey
from headrace.rpc.frame_stream import hello
from headrace.rpc.limits import CHANNEL_OPTIONS, FrameTiming
from headrace.rpc.server import GrpcServer
from headrace.runtime.identity import Identity
from headrace.runtime.tls_settings import ServerTlsSettings
from headrace.worker.v1.attach_pb2 import AttachRequest, AttachResponse, Submission
from headrace.worker.v1.generation_pb2 import GenerationRequest
from headrace.worker.v1.service_pb2_grpc import (
    GenerationServiceStub,
    add_GenerationServiceServicer_to_server,
)
from worker.engine.seam import Engine
from worker.request_report import RequestReports
from worker.servicer import WorkerServicer


@dataclass
class RunningWorker:
    """A worker in this process, on a port of its own."""

    servicer: WorkerServicer
    server: GrpcServer
    stub: GenerationServiceStub
    channel: grpc.aio.Channel

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.server.port}"


@asynccontextmanager
async def running_worker(
    engine: Engine,
    timing: FrameTiming | None = None,
    tls: ServerTlsSettings | None = None,
    keys: KeyRing | None = None,
    reports: RequestReports | None = None,
) -> AsyncIterator[RunningWorker]:
    """Serve an engine over real gRPC on loopback."""
    await engine.start()
    gate = KeyGate(keys)
    timing = timing or FrameTiming()
    servicer = WorkerServicer(engine, Identity(), timing, gate, reports=reports)
    names = ["headrace.worker.v1.GenerationService"]
    server = GrpcServer("127.0.0.1", 0, names, tls=tls, interceptors=gate.interceptors)
    server.add(add_GenerationServiceServicer_to_server, servicer)
    await server.serve()
    channel = grpc.aio.insecure_channel(f"127.0.0.1:{server.port}", options=CHANNEL_OPTIONS)
    try:
        yield RunningWorker(servicer, server, GenerationServiceStub(channel), channel)
    finally:
        await channel.close()
        await server.stop(0)
        await engine.stop()


class RawAttach:
    """One Attach call; `send` numbers frames, `read_until` collects frames."""

    def __init__(self, stub: GenerationServiceStub, key: str | None = None) -> None:
        self.call = stub.Attach(metadata=OwnKey(key).metadata())
        self.sequence = 0
        self.received = 0

    async def send(self, frame: AttachRequest | None = None, *, greet: bool | None = None) -> None:
        """Send a frame; the first one says hello unless told otherwise."""
        frame = frame or AttachRequest()
        self.sequence += 1
        frame.header.sequence = self.sequence
        frame.header.last_received_sequence = self.received
        if greet or (greet is None and self.sequence == 1):
            frame.header.hello.CopyFrom(hello(Identity()))
        await self.call.write(frame)

    async def submit(self, first_handle: int, request: GenerationRequest | None = None) -> None:
        """Submit one request."""
        submission = Submission(first_handle=first_handle, request=request or generation())
        await self.send(AttachRequest(submissions=[submission]))

    async def abort(self, *handles: int, reasons: Sequence[int] = ()) -> None:
        """Abort outputs."""
        await self.send(AttachRequest(aborted_handles=handles, abort_reasons=reasons))

    async def read(self) -> AttachResponse:
        """The next frame."""
        frame = await self.call.read()
        assert frame is not grpc.aio.EOF, "the worker closed the stream"
        self.received = frame.header.sequence
        return frame

    async def read_to_end(self) -> list[AttachResponse]:
        """Frames until the worker ends the stream; raises its status when that is an error."""
        frames: list[AttachResponse] = []
        while (frame := await self.call.read()) is not grpc.aio.EOF:
            frames.append(frame)
        return frames

    async def read_until(self, field: str, count: int = 1) -> list[AttachResponse]:
        """Frames up to the one with which `field` has had `count` entries."""
        frames: list[AttachResponse] = []
        while sum(len(getattr(frame, field)) for frame in frames) < count:
            frames.append(await self.read())
        return frames


def generation(**fields: object) -> GenerationRequest:
    """A small request."""
    values: dict[str, object] = {"request_id": "r1", "prompt_token_ids": [5, 6, 7], "max_tokens": 9}
    return GenerationRequest(**(values | fields))

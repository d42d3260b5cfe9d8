"""A worker on real gRPC whose frames are the test's own."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import grpc

from headrace.common.v1 import errors_pb2
from headrace.common.v1.finish_pb2 import FINISH_REASON_LENGTH, FinishReason
from headrace.rpc.server import GrpcServer
from headrace.worker.v1.attach_pb2 import AttachRequest, AttachResponse, Submission
from headrace.worker.v1.generation_pb2 import OutputLogprobs, Started, Terminal
from headrace.worker.v1.model_pb2 import GetModelRequest, GetModelResponse
from headrace.worker.v1.service_pb2_grpc import (
    GenerationServiceServicer,
    add_GenerationServiceServicer_to_server,
)
from tests.support.scripted_stream import ScriptedStream

MODEL = "tiny"
FINGERPRINT = "f" * 32


class ScriptedWorker(GenerationServiceServicer):
    """Hands every Attach stream to the test; `port` is where it listens."""

    def __init__(self) -> None:
        self.opened: asyncio.Queue[ScriptedStream] = asyncio.Queue()
        self.streams: list[ScriptedStream] = []
        self.model = GetModelResponse(
            model=MODEL,
            engine="scripted",
            context_length=4096,
            vocabulary_size=50_000,
            tokenizer_fingerprint=FINGERPRINT,
            max_outputs=8,
        )
        self.address = ""

    async def Attach(  # noqa: N802 (gRPC's name)
        self, request_iterator: object, context: grpc.aio.ServicerContext
    ) -> None:
        stream = ScriptedStream(context, AttachResponse)
        self.streams.append(stream)
        self.opened.put_nowait(stream)
        await stream.serve()

    async def GetModel(  # noqa: N802 (gRPC's name)
        self, request: GetModelRequest, context: grpc.aio.ServicerContext
    ) -> GetModelResponse:
        return self.model

    async def greeted(self) -> ScriptedStream:
        """The next stream, after hello."""
        stream = await self.opened.get()
        await stream.greet()
        return stream


async def submitted(stream: ScriptedStream, count: int = 1) -> Submission:
    """The newest submission, once there have been `count`."""
    return (await stream.read_until("submissions", count))[-1]


def start(*handles: int) -> AttachResponse:
    """The outputs are taken up."""
    return AttachResponse(
        accepted_handles=handles,
        started=[
            Started(handle=handle, prompt_tokens=3, cached_prompt_tokens=1) for handle in handles
        ],
    )


def tokens(handle: int, *token_ids: int) -> AttachResponse:
    """New tokens of one output."""
    return AttachResponse(handles=[handle], counts=[len(token_ids)], token_ids=token_ids)


def drawn(handle: int, *logprobs: float, top: int = 0) -> AttachResponse:
    """A frame of one output's tokens 11, 12, … with so many alternatives 50, 51, … each."""
    frame = tokens(handle, *range(11, 11 + len(logprobs)))
    entry = OutputLogprobs(handle=handle, logprobs=logprobs, top_counts=[top] * len(logprobs))
    entry.top_token_ids.extend([*range(50, 50 + top)] * len(logprobs))
    entry.top_logprobs.extend([-1.5 - place for place in range(top)] * len(logprobs))
    frame.logprobs.append(entry)
    return frame


def end(handle: int, reason: "FinishReason.ValueType" = FINISH_REASON_LENGTH) -> AttachResponse:
    """An output ends by itself."""
    return AttachResponse(terminals=[Terminal(handle=handle, finish_reason=reason)])


def refuse(handles: Sequence[int], reason: "errors_pb2.ErrorReason.ValueType") -> AttachResponse:
    """Outputs fail."""
    failure = errors_pb2.Failure(reason=reason, message="refused by the test")
    return AttachResponse(terminals=[Terminal(handle=h, failure=failure) for h in handles])


def aborted(stream: ScriptedStream) -> list[int]:
    """Handles that the edge has aborted in the frames read."""
    frames: list[AttachRequest] = stream.frames
    return [handle for frame in frames for handle in frame.aborted_handles]


@asynccontextmanager
async def scripted_worker() -> AsyncIterator[ScriptedWorker]:
    """Serve a scripted worker on loopback."""
    worker = ScriptedWorker()
    server = GrpcServer("127.0.0.1", 0, [])
    server.add(add_GenerationServiceServicer_to_server, worker)
    await server.serve()
    worker.address = f"127.0.0.1:{server.port}"
    try:
        yield worker
    finally:
        for stream in worker.streams:
            stream.close()
        await server.stop(0)

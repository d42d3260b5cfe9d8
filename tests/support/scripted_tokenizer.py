"""A tokenizer on real gRPC whose frames are the test's own."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpc

from headrace.common.v1.finish_pb2 import FINISH_REASON_UNSPECIFIED
from headrace.rpc.server import GrpcServer
from headrace.tokenizer.v1.detokenize_pb2 import (
    DetokenizeOpen,
    DetokenizeResponse,
    OutputDelta,
    StopHit,
    TokenBytes,
)
from headrace.tokenizer.v1.model_pb2 import GetModelRequest, GetModelResponse
from headrace.tokenizer.v1.render_pb2 import Decoder, RenderRequest, RenderResponse
from headrace.tokenizer.v1.service_pb2_grpc import (
    TokenizerServiceServicer,
    add_TokenizerServiceServicer_to_server,
)
from tests.support.scripted_stream import ScriptedStream
from tests.support.scripted_worker import FINGERPRINT, MODEL


class ScriptedTokenizer(TokenizerServiceServicer):
    """Hands every Detokenize stream to the test; `render_gate` holds Render up until it is set."""

    def __init__(self) -> None:
        self.opened: asyncio.Queue[ScriptedStream] = asyncio.Queue()
        self.streams: list[ScriptedStream] = []
        self.rendering = asyncio.Event()
        self.render_metadata: list[dict[str, str | bytes]] = []
        self.render_gate = asyncio.Event()
        self.render_gate.set()
        self.models = {MODEL: FINGERPRINT}
        self.address = ""
        self.server: GrpcServer | None = None

    async def Detokenize(  # noqa: N802 (gRPC's name)
        self, request_iterator: object, context: grpc.aio.ServicerContext
    ) -> None:
        stream = ScriptedStream(context, DetokenizeResponse)
        self.streams.append(stream)
        self.opened.put_nowait(stream)
        await stream.serve()

    async def GetModel(  # noqa: N802 (gRPC's name)
        self, request: GetModelRequest, context: grpc.aio.ServicerContext
    ) -> GetModelResponse:
        name = request.model or next(iter(self.models))
        return GetModelResponse(
            model=name, served_models=self.models, tokenizer_fingerprint=self.models[name]
        )

    async def Render(  # noqa: N802 (gRPC's name)
        self, request: RenderRequest, context: grpc.aio.ServicerContext
    ) -> RenderResponse:
        self.render_metadata.append(dict(context.invocation_metadata() or ()))
        self.rendering.set()
        await self.render_gate.wait()
        return RenderResponse(prompt_token_ids=[5, 6, 7], decoder=decoder())

    async def greeted(self) -> ScriptedStream:
        """The next stream, after hello."""
        stream = await self.opened.get()
        await stream.greet()
        return stream


def decoder(output_format: str = "text") -> Decoder:
    """The decoder of the scripted model."""
    return Decoder(
        model=MODEL,
        tokenizer_fingerprint=FINGERPRINT,
        stop_token_ids=[2],
        output_format=output_format,
    )


async def opened(stream: ScriptedStream, count: int = 1) -> DetokenizeOpen:
    """The newest open, once there have been `count`."""
    return (await stream.read_until("opens", count))[-1]


def text(handle: int, delta: str, consumed: int, released: int | None = None) -> DetokenizeResponse:
    """An entry of one output."""
    return DetokenizeResponse(
        handles=[handle],
        consumed_tokens=[consumed],
        released_tokens=[consumed if released is None else released],
        deltas=[delta],
    )


def says(handle: int, consumed: int, *deltas: OutputDelta) -> DetokenizeResponse:
    """An entry of one output in a format, with what it says."""
    for delta in deltas:
        delta.handle = handle
    response = text(handle, "", consumed)
    response.output_deltas.extend(deltas)
    return response


def spelling(
    handle: int, tokens: list[bytes], alternatives: tuple[bytes, ...] = ()
) -> DetokenizeResponse:
    """What a frame says of newly released tokens."""
    entry = TokenBytes(
        handle=handle,
        lengths=map(len, tokens),
        spelled=b"".join(tokens),
        alternative_lengths=map(len, alternatives),
        alternatives=b"".join(alternatives),
    )
    return DetokenizeResponse(token_bytes=[entry])


def hit(handle: int, consumed: int, stop_index: int = 0) -> DetokenizeResponse:
    """A completed stop string."""
    entry = StopHit(handle=handle, stop_index=stop_index, consumed_tokens=consumed)
    return DetokenizeResponse(stop_hits=[entry])


def closed(*handles: int) -> DetokenizeResponse:
    """Outputs that were closed and flushed."""
    return DetokenizeResponse(closed_handles=handles)


def abandoned(stream: ScriptedStream) -> list[int]:
    """Handles that the edge has abandoned in the frames read."""
    return [
        entry.handle
        for entry in stream.entries("closes")
        if entry.finish_reason == FINISH_REASON_UNSPECIFIED
    ]


@asynccontextmanager
async def scripted_tokenizer() -> AsyncIterator[ScriptedTokenizer]:
    """Serve a scripted tokenizer on loopback."""
    tokenizer = ScriptedTokenizer()
    server = GrpcServer("127.0.0.1", 0, [])
    server.add(add_TokenizerServiceServicer_to_server, tokenizer)
    await server.serve()
    tokenizer.server = server
    tokenizer.address = f"127.0.0.1:{server.port}"
    try:
        yield tokenizer
    finally:
        tokenizer.render_gate.set()
        for stream in tokenizer.streams:
            stream.close()
        await server.stop(0)

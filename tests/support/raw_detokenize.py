"""A tokenizer in this process, and a hand-driven edge on its Detokenize stream."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import accumulate

import grpc

from headrace.access.grpc_authentication import KeyGate
from headrace.access.key_ring import KeyRing
from headrace.rpc.bearer import OwnKey
from headrace.rpc.frame_stream import hello
from headrace.rpc.limits import CHANNEL_OPTIONS, FrameTiming
from headrace.rpc.server import GrpcServer
from headrace.runtime.identity import Identity
from headrace.runtime.tls_settings import ServerTlsSettings
from headrace.telemetry.service import Telemetry
from headrace.telemetry.spans import NoTracing, Tracing
from headrace.tokenizer.v1.detokenize_pb2 import (
    DetokenizeClose,
    DetokenizeFailure,
    DetokenizeOpen,
    DetokenizeRequest,
    DetokenizeResponse,
    OutputDelta,
    StopHit,
    TokenAlternatives,
)
from headrace.tokenizer.v1.service_pb2_grpc import (
    TokenizerServiceStub,
    add_TokenizerServiceServicer_to_server,
)
from tokenizer_svc.call_watch import call_hook
from tokenizer_svc.encoding_pool import EncodingPool
from tokenizer_svc.metrics import TokenizerMetrics
from tokenizer_svc.registry import ModelRegistry
from tokenizer_svc.servicer import TokenizerServicer
from tokenizer_svc.settings import LimitSettings


@dataclass
class RunningTokenizer:
    """A tokenizer service on a port of its own."""

    servicer: TokenizerServicer
    server: GrpcServer
    stub: TokenizerServiceStub
    pool: EncodingPool
    metrics: TokenizerMetrics


@asynccontextmanager
async def running_tokenizer(
    registry: ModelRegistry,
    timing: FrameTiming | None = None,
    limits: LimitSettings | None = None,
    tls: ServerTlsSettings | None = None,
    keys: KeyRing | None = None,
    tracing: Tracing | None = None,
) -> AsyncIterator[RunningTokenizer]:
    """Serve the registry over real gRPC on loopback."""
    metrics = TokenizerMetrics(Identity())
    gate = KeyGate(keys, metrics.on_key_refused)
    limits = limits or LimitSettings()
    pool = EncodingPool(2, limits.max_pending_encodings, limits.long_text_characters)
    servicer = TokenizerServicer(
        registry, pool, limits, metrics.identity, timing or FrameTiming(), gate
    )
    metrics.watch(servicer.activity, pool)
    hook = call_hook(Telemetry(metrics, tracing or NoTracing()))
    names = ["headrace.tokenizer.v1.TokenizerService"]
    server = GrpcServer("127.0.0.1", 0, names, tls=tls, interceptors=[hook, *gate.interceptors])
    server.add(add_TokenizerServiceServicer_to_server, servicer)
    await server.serve()
    channel = grpc.aio.insecure_channel(f"127.0.0.1:{server.port}", options=CHANNEL_OPTIONS)
    try:
        yield RunningTokenizer(servicer, server, TokenizerServiceStub(channel), pool, metrics)
    finally:
        await channel.close()
        await server.stop(0)
        pool.close()


@dataclass
class SeenOutput:
    """What the stream has said of one output."""

    text: str = ""
    consumed: int = 0
    released: int = 0
    entries: int = 0
    stop: StopHit | None = None
    closed: bool = False
    failure: DetokenizeFailure | None = None
    spelled: list[bytes] = field(default_factory=list)
    alternatives: list[bytes] = field(default_factory=list)
    said: list[OutputDelta] = field(default_factory=list)
    reasoning_tokens: int = 0


@dataclass
class RawDetokenize:
    """One Detokenize call; frames are the test's own, numbering included."""

    stub: TokenizerServiceStub
    key: str | None = None
    sequence: int = 0
    received: int = 0
    outputs: dict[int, SeenOutput] = field(default_factory=dict)
    frames: list[DetokenizeResponse] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.call = self.stub.Detokenize(metadata=OwnKey(self.key).metadata())

    async def send(
        self,
        opens: Sequence[DetokenizeOpen] = (),
        feeds: Sequence[tuple[int, Sequence[int]]] = (),
        closes: Sequence[DetokenizeClose] = (),
        alternatives: Sequence[TokenAlternatives] = (),
    ) -> None:
        """Send a frame; the first one says hello."""
        frame = DetokenizeRequest(opens=opens, closes=closes, alternatives=alternatives)
        for handle, token_ids in feeds:
            frame.handles.append(handle)
            frame.counts.append(len(token_ids))
            frame.token_ids.extend(token_ids)
        await self.send_frame(frame)

    async def send_frame(self, frame: DetokenizeRequest) -> None:
        """Number and send a frame."""
        self.sequence += 1
        frame.header.sequence = self.sequence
        frame.header.last_received_sequence = self.received
        if self.sequence == 1:
            frame.header.hello.CopyFrom(hello(Identity()))
        await self.call.write(frame)

    async def read(self) -> DetokenizeResponse:
        """The next frame, entered into `outputs`."""
        frame = await self.call.read()
        assert frame is not grpc.aio.EOF, "the tokenizer closed the stream"
        self.received = frame.header.sequence
        self.frames.append(frame)
        self._enter(frame)
        return frame

    async def read_to_end(self) -> list[DetokenizeResponse]:
        """Frames until the tokenizer ends the stream; raises its status when that is an error."""
        frames: list[DetokenizeResponse] = []
        while (frame := await self.call.read()) is not grpc.aio.EOF:
            frames.append(frame)
        return frames

    async def output(self, handle: int, *, entries: int = 0, closed: bool = False) -> SeenOutput:
        """The output once it has had so many entries, was closed where asked, or failed."""
        seen = self.outputs.setdefault(handle, SeenOutput())
        while (seen.entries < entries or seen.closed < closed) and seen.failure is None:
            await self.read()
        return seen

    async def failed(self, handle: int) -> DetokenizeFailure:
        """The output's failure."""
        seen = self.outputs.setdefault(handle, SeenOutput())
        while seen.failure is None:
            await self.read()
        return seen.failure

    def _enter(self, frame: DetokenizeResponse) -> None:
        for entry in frame.token_bytes:
            seen = self.outputs.setdefault(entry.handle, SeenOutput())
            seen.spelled += _split(entry.spelled, entry.lengths)
            seen.alternatives += _split(entry.alternatives, entry.alternative_lengths)
        for event in frame.output_deltas:
            seen = self.outputs.setdefault(event.handle, SeenOutput())
            assert event.reasoning_tokens >= seen.reasoning_tokens, "the count went back"
            seen.reasoning_tokens = event.reasoning_tokens
            if event.WhichOneof("event"):
                seen.said.append(event)
        rows = zip(
            frame.handles, frame.consumed_tokens, frame.released_tokens, frame.deltas, strict=True
        )
        for handle, consumed, released, delta in rows:
            seen = self.outputs.setdefault(handle, SeenOutput())
            assert not seen.closed, "an entry after the end"
            assert seen.failure is None, "an entry after the failure"
            seen.text += delta
            seen.consumed, seen.released = consumed, released
            seen.entries += 1
        for hit in frame.stop_hits:
            self.outputs[hit.handle].stop = hit
        for handle in frame.closed_handles:
            self.outputs.setdefault(handle, SeenOutput()).closed = True
        for failure in frame.failures:
            self.outputs.setdefault(failure.handle, SeenOutput()).failure = failure


def _split(data: bytes, lengths: Sequence[int]) -> list[bytes]:
    assert sum(lengths) == len(data)
    ends = list(accumulate(lengths))
    return [data[end - length : end] for end, length in zip(ends, lengths, strict=True)]

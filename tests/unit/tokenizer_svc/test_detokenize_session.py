"""A stream whose edge does not read: single outputs end, the stream lives."""

import asyncio
from collections import deque

import grpc

from headrace.common.v1 import errors_pb2
from headrace.models.directory import ModelDirectory
from headrace.rpc.frame_stream import hello
from headrace.rpc.limits import MAX_PENDING_TOKENS, FrameTiming
from headrace.runtime.identity import Identity
from headrace.tokenizer.v1.detokenize_pb2 import (
    DetokenizeOpen,
    DetokenizeRequest,
    DetokenizeResponse,
)
from tokenizer_svc.activity import Activity
from tokenizer_svc.detokenize_session import DetokenizeSession, OutputOpener
from tokenizer_svc.registry import ModelRegistry, TokenizerModel
from tokenizer_svc.settings import LimitSettings, TokenizerSettings

TOKENS_PER_FRAME = 200_000


class StalledEdge:
    """Sends what it was given, and reads nothing until `reads` is set."""

    def __init__(self, frames: list[DetokenizeRequest]) -> None:
        self._frames = deque(frames)
        self.reads = asyncio.Event()
        self.sent_all = asyncio.Event()
        self.leaves = asyncio.Event()
        self.received: list[DetokenizeResponse] = []

    async def read(self) -> DetokenizeRequest:
        if self._frames:
            return self._frames.popleft()
        self.sent_all.set()
        await self.leaves.wait()
        return grpc.aio.EOF

    async def write(self, message: DetokenizeResponse) -> None:
        await self.reads.wait()
        self.received.append(message)
        if message.failures:
            self.leaves.set()


async def test_an_edge_that_reads_nothing_loses_outputs_not_the_stream(
    model_directory: ModelDirectory,
) -> None:
    """Above the bound the fed outputs fail as overloaded; what was made before still arrives."""
    model = TokenizerModel.load(model_directory, TokenizerSettings())
    frames_that_fit = MAX_PENDING_TOKENS // TOKENS_PER_FRAME + 1
    feed = {"handles": [1], "counts": [TOKENS_PER_FRAME], "token_ids": [50] * TOKENS_PER_FRAME}
    frames = [
        DetokenizeRequest(opens=[DetokenizeOpen(handle=h, decoder=model.decoder()) for h in (1, 2)])
    ]
    frames += [DetokenizeRequest(**feed) for _ in range(frames_that_fit + 2)]
    for number, frame in enumerate(frames, 1):
        frame.header.sequence = number
    frames[0].header.hello.CopyFrom(hello(Identity()))
    edge, activity = StalledEdge(frames), Activity()
    opener = OutputOpener(ModelRegistry([model]), LimitSettings())
    session = DetokenizeSession(edge, opener, activity, Identity(), FrameTiming())

    async with asyncio.TaskGroup() as group:
        group.create_task(session.run())
        await edge.sent_all.wait()
        open_outputs = activity.open_outputs
        edge.reads.set()

    [failure] = [failure for frame in edge.received for failure in frame.failures]
    text = "".join(delta for frame in edge.received for delta in frame.deltas)
    word = model.vocabulary.decode([50])
    assert failure.handle == 1
    assert failure.failure.reason == errors_pb2.ERROR_REASON_OVERLOADED
    assert word is not None
    assert len(text) == frames_that_fit * TOKENS_PER_FRAME * len(word)
    assert open_outputs == 1
    assert activity.open_outputs == 0

"""One end of a shared stream over a call that the test plays."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest

from headrace.rpc.frame_stream import (
    FrameCounts,
    FrameStream,
    FrameViolationError,
    StreamLostError,
    hello,
)
from headrace.rpc.limits import FrameTiming
from headrace.rpc.outbox import RollingOutbox
from headrace.runtime.identity import Identity
from headrace.worker.v1.attach_pb2 import AttachRequest, AttachResponse

FAST = FrameTiming(heartbeat_seconds=0.05, silence_seconds=0.3, hello_seconds=0.2)


class PlayedCall:
    """The peer: `incoming` is what it sends, `written` what it took; `gate` stops its taking."""

    def __init__(self) -> None:
        self.incoming: asyncio.Queue[Any] = asyncio.Queue()
        self.written: list[AttachRequest] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self._sequence = 0
        self._changed = asyncio.Event()

    async def read(self) -> Any:
        frame = await self.incoming.get()
        if isinstance(frame, Exception):
            raise frame
        return frame

    async def write(self, message: AttachRequest) -> None:
        await self.gate.wait()
        self.written.append(message)
        self._changed.set()

    def say(self, **header: int) -> None:
        """Send a frame; the first one says hello."""
        self._sequence += 1
        frame = AttachResponse()
        frame.header.sequence = header.get("sequence", self._sequence)
        frame.header.last_received_sequence = header.get("acknowledged", 0)
        if self._sequence == 1:
            frame.header.hello.CopyFrom(hello(Identity()))
        self.incoming.put_nowait(frame)

    async def has_taken(self, count: int) -> None:
        """Return when so many frames have been written."""
        while len(self.written) < count:
            self._changed.clear()
            await self._changed.wait()


class AbortOutbox(RollingOutbox[AttachRequest]):
    """Frames of aborted handles."""

    def __init__(self) -> None:
        super().__init__(AttachRequest)

    def add(self, handle: int) -> None:
        self._room_for(16).aborted_handles.append(handle)


class Ends:
    """A stream that runs, its peer, and what it received."""

    def __init__(self, timing: FrameTiming) -> None:
        self.call = PlayedCall()
        self.outbox = AbortOutbox()
        self.received: list[AttachResponse] = []
        self.stream: FrameStream[AttachResponse, AttachRequest] = FrameStream(
            self.call, self.outbox, self.received.append, Identity(), peer="peer p", timing=timing
        )
        self.running = asyncio.create_task(self.stream.run())


@asynccontextmanager
async def stream_ends(timing: FrameTiming = FAST) -> AsyncIterator[Ends]:
    """Run one end."""
    ends = Ends(timing)
    try:
        yield ends
    finally:
        ends.call.gate.set()
        ends.running.cancel()
        await asyncio.gather(ends.running, return_exceptions=True)


async def talking(call: PlayedCall) -> None:
    """Keep the peer alive until cancelled."""
    while True:
        call.say()
        await asyncio.sleep(0.05)


async def test_what_waits_while_a_write_is_pending_goes_out_as_one_frame() -> None:
    """Entries added meanwhile are merged, in order, into the next frame."""
    async with stream_ends(FrameTiming()) as ends:
        await ends.call.has_taken(1)
        ends.call.gate.clear()
        for handle in range(1, 4):
            ends.outbox.add(handle)
            ends.stream.wake()
            await asyncio.sleep(0)
        ends.call.gate.set()
        await ends.call.has_taken(3)
        frames = [list(frame.aborted_handles) for frame in ends.call.written]

    assert [[], [1], [2, 3]] == frames


async def test_a_peer_that_takes_no_data_is_dead() -> None:
    """A write that stays pending for the silence limit ends the stream, though the peer talks."""
    async with stream_ends() as ends:
        await ends.call.has_taken(1)
        ends.call.gate.clear()
        alive = asyncio.create_task(talking(ends.call))
        with pytest.raises(StreamLostError, match="took no data"):
            await asyncio.wait_for(asyncio.shield(ends.running), 5)
        alive.cancel()


@pytest.mark.parametrize("has_spoken", [True, False])
async def test_a_silent_peer_is_dead(has_spoken: bool) -> None:
    """Silence ends the stream: after the hello limit before hello, then after the silence limit."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    async with stream_ends() as ends:
        if has_spoken:
            ends.call.say()
        with pytest.raises(StreamLostError, match="silent for"):
            await asyncio.wait_for(asyncio.shield(ends.running), 5)
    taken = loop.time() - began

    assert (0.3 if has_spoken else 0.2) <= taken


async def test_a_peer_that_closes_ends_the_stream_without_an_error() -> None:
    """The end of the peer's frames is the end of `run`."""
    async with stream_ends() as ends:
        ends.call.say()
        ends.call.incoming.put_nowait(grpc.aio.EOF)
        await asyncio.wait_for(ends.running, 5)


async def test_a_broken_call_is_a_loss_that_names_the_peer() -> None:
    """What gRPC says is in the message."""
    error = grpc.aio.AioRpcError(
        grpc.StatusCode.UNAVAILABLE, grpc.aio.Metadata(), grpc.aio.Metadata(), details="reset"
    )
    async with stream_ends() as ends:
        ends.call.incoming.put_nowait(error)
        with pytest.raises(StreamLostError, match="peer p: UNAVAILABLE: reset"):
            await asyncio.wait_for(asyncio.shield(ends.running), 5)


async def test_finish_sends_what_waits_and_ends() -> None:
    """Everything appended before `finish` is written, then `run` returns."""
    async with stream_ends(FrameTiming()) as ends:
        await ends.call.has_taken(1)
        ends.call.gate.clear()
        for handle in range(1, 4):
            ends.outbox.add(handle)
            ends.stream.wake()
            await asyncio.sleep(0)
        ends.stream.finish()
        ends.call.gate.set()
        await asyncio.wait_for(ends.running, 5)
        handles = [h for frame in ends.call.written for h in frame.aborted_handles]

    assert [1, 2, 3] == handles


async def test_draining_is_said_at_once_and_in_every_frame() -> None:
    """`drain` needs no traffic to be heard, and is not taken back."""
    async with stream_ends() as ends:
        ends.call.say()
        alive = asyncio.create_task(talking(ends.call))
        await ends.call.has_taken(1)
        before = len(ends.call.written)
        ends.stream.drain()
        await ends.call.has_taken(before + 3)
        alive.cancel()
        flags = [frame.header.draining for frame in ends.call.written[before:]]

    assert [True] * len(flags) == flags


async def test_what_the_owner_raises_ends_the_stream() -> None:
    """A violation that only the owner can see comes out of `run`."""
    async with stream_ends() as ends:

        def refuse(frame: AttachResponse) -> None:
            raise FrameViolationError("not like that")

        ends.stream._on_frame = refuse
        ends.call.say()
        with pytest.raises(FrameViolationError, match="not like that"):
            await asyncio.wait_for(asyncio.shield(ends.running), 5)


async def test_cancelling_twice_leaves_no_task_behind() -> None:
    """Even while the last write is waited for, a second cancellation ends reader and writer."""
    async with stream_ends(FrameTiming()) as ends:
        await ends.call.has_taken(1)
        ends.call.gate.clear()
        ends.outbox.add(1)
        ends.stream.wake()
        await asyncio.sleep(0)
        tasks = asyncio.all_tasks() - {asyncio.current_task(), ends.running}
        for _ in range(2):
            ends.running.cancel()
            await asyncio.sleep(0)
        await asyncio.wait([ends.running], timeout=5)

        assert 3 == len(tasks)
        assert all(task.done() for task in tasks)
        assert ends.stream.peer_hello.cancelled()


async def test_streams_count_their_frames_together() -> None:
    """Both directions, over all streams that were given the same counts."""
    counts = FrameCounts()
    for _ in range(2):
        async with stream_ends(FrameTiming()) as ends:
            ends.stream.counts = counts
            ends.call.say()
            ends.call.say()
            ends.outbox.add(1)
            await ends.call.has_taken(1)
            ends.call.incoming.put_nowait(grpc.aio.EOF)
            await ends.running

    assert counts == FrameCounts(sent=2, received=4)

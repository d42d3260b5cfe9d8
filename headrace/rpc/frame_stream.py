"""One end of a shared stream: hello, numbering, heartbeats, liveness, merging; for all four ends.

The owner appends to an `Outbox` (the frame under construction) and calls `wake`; one writer task
turns it into frames, at most one a loop turn, and whatever is appended while a write is pending
goes out as the next one. The reader hands each frame to a plain function, which must not block.
`run` ends when the stream does, with one of three results: a side closed it, `StreamLostError`,
or `FrameViolationError` for a peer that broke the contract (protos/README.md).
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

import grpc
import structlog

from headrace.common.v1.frames_pb2 import FrameHeader, Hello
from headrace.rpc.limits import MAX_MESSAGE_BYTES, PROTOCOL_VERSION, FrameTiming
from headrace.runtime.identity import Identity

_log = structlog.get_logger(__name__)

_LAST_WRITE_SECONDS = 1.0


class StreamLostError(Exception):
    """The stream ended without the peer closing it: broken, silent, or not reading."""


class FrameViolationError(Exception):
    """The peer broke the frame contract: a bug, reported loudly."""


@dataclass(slots=True)
class FrameCounts:
    """Frames of any number of streams; only ever growing, so that any thread may read them."""

    sent: int = 0
    received: int = 0


class Frame(Protocol):
    """A frame message of either stream."""

    @property
    def header(self) -> FrameHeader:
        """What opens it."""


In = TypeVar("In", bound=Frame)
Out = TypeVar("Out", bound=Frame)
ReceivedT_co = TypeVar("ReceivedT_co", bound=Frame, covariant=True)
Sent_contra = TypeVar("Sent_contra", bound=Frame, contravariant=True)
BuiltT_co = TypeVar("BuiltT_co", bound=Frame, covariant=True)


class FrameCall(Protocol[ReceivedT_co, Sent_contra]):
    """The reading and writing half of a gRPC stream: a client's call or a server's context."""

    async def read(self) -> ReceivedT_co:
        """The next frame, or grpc.aio.EOF."""

    async def write(self, message: Sent_contra) -> None:
        """Send a frame; returns when gRPC has taken it."""


class Outbox(Protocol[BuiltT_co]):
    """A frame under construction."""

    merge_seconds: float
    """Least time between two frames: what comes sooner is merged. 0 = a frame a loop turn."""

    @property
    def is_empty(self) -> bool:
        """Nothing waits."""

    def take(self) -> BuiltT_co:
        """What waits, or as much as one frame may hold; an empty frame when nothing does."""


def hello(identity: Identity) -> Hello:
    """Hello as this process says it."""
    return Hello(
        protocol_version=PROTOCOL_VERSION,
        build=identity.build,
        instance_id=identity.instance_id,
        max_message_bytes=MAX_MESSAGE_BYTES,
    )


class FrameStream(Generic[In, Out]):
    """One end of a shared stream over `call`.

    `on_frame` takes each received frame; what it raises ends the stream. `peer` names the other
    side in messages. `peer_hello` completes with the peer's Hello. Its owner may replace `counts`
    before it runs, so that several streams count together, and `told`, which gives for an error of
    `call` the one to tell of.
    """

    def __init__(
        self,
        call: FrameCall[In, Out],
        outbox: Outbox[Out],
        on_frame: Callable[[In], None],
        identity: Identity,
        *,
        peer: str,
        timing: FrameTiming,
    ) -> None:
        self._call = call
        self._outbox = outbox
        self._on_frame = on_frame
        self._identity = identity
        self._peer = peer
        self._timing = timing
        self._loop = asyncio.get_running_loop()
        self._wake = asyncio.Event()
        self._sent = 0
        self._received = 0
        self._last_sent_at = self._last_received_at = self._loop.time()
        self._write_began_at: float | None = None
        self._draining = False
        self._is_ending = self._is_finishing = False
        self.counts = FrameCounts()
        self.told: Callable[[Exception], Exception] = _as_it_is
        self.peer_draining = False
        self.peer_hello: asyncio.Future[Hello] = self._loop.create_future()

    def wake(self) -> None:
        """The outbox has something to send."""
        self._wake.set()

    def drain(self) -> None:
        """Say in every frame from now on that nothing new is taken."""
        self._draining = True
        self._wake.set()

    def finish(self) -> None:
        """Close the stream as soon as what waits has been sent."""
        self._is_finishing = True
        self._wake.set()

    async def run(self) -> None:
        """Serve until the stream ends; returns when the peer closed it or `finish` is done.

        Raises StreamLostError or FrameViolationError, and what `on_frame` raised.
        """
        self._wake.set()
        writer = asyncio.create_task(self._write())
        tasks = [asyncio.create_task(self._read()), writer, asyncio.create_task(self._watch())]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            ended = [task for task in tasks if task.done()]
            try:
                await self._finish_writing(writer)
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
                self.peer_hello.cancel()
        for task in ended:
            await task

    async def _finish_writing(self, writer: asyncio.Task[None]) -> None:
        """Let the pending write end: gRPC refuses to send a status beside it."""
        self._is_ending = True
        self._wake.set()
        await asyncio.wait([writer], timeout=_LAST_WRITE_SECONDS)

    async def _read(self) -> None:
        while True:
            try:
                frame = await self._call.read()
            except grpc.RpcError as error:
                raise self._lost(error) from self.told(error)
            if frame is grpc.aio.EOF:
                return
            self._last_received_at = self._loop.time()
            self._check(frame.header)
            self._on_frame(frame)

    def _check(self, header: FrameHeader) -> None:
        if header.sequence != self._received + 1:
            raise FrameViolationError(
                f"{self._peer} sent frame {header.sequence} after frame {self._received}"
            )
        if header.last_received_sequence > self._sent:
            raise FrameViolationError(
                f"{self._peer} acknowledged frame {header.last_received_sequence} "
                f"of {self._sent} sent"
            )
        if header.HasField("hello") != (self._received == 0):
            raise FrameViolationError(f"{self._peer} must say hello in its first frame only")
        self._received = header.sequence
        self.counts.received += 1
        self.peer_draining = header.draining
        if header.HasField("hello"):
            self._greet(header.hello)

    def _greet(self, greeting: Hello) -> None:
        if greeting.protocol_version != PROTOCOL_VERSION:
            raise FrameViolationError(
                f"{self._peer} speaks frame protocol {greeting.protocol_version}; "
                f"this build speaks {PROTOCOL_VERSION}"
            )
        _log.info(
            "peer_greeted",
            peer=self._peer,
            build=greeting.build,
            instance_id=greeting.instance_id,
            features=list(greeting.features),
        )
        if not self.peer_hello.done():
            self.peer_hello.set_result(greeting)

    async def _write(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            if self._is_ending:
                return
            await self._merge_pause()
            frame = self._outbox.take()
            self._stamp(frame.header)
            self._write_began_at = self._loop.time()
            try:
                await self._call.write(frame)
            except (grpc.RpcError, asyncio.InvalidStateError) as error:
                raise self._lost(error) from self.told(error)
            self._last_sent_at = self._loop.time()
            self._write_began_at = None
            if not self._outbox.is_empty:
                self._wake.set()
            elif self._is_finishing and not self._wake.is_set():
                # What has been said beside the last write, as that it drains, has gone out too.
                return

    def _lost(self, error: Exception) -> StreamLostError:
        return StreamLostError(_describe(self.told(error), self._peer))

    async def _merge_pause(self) -> None:
        merge_seconds = self._outbox.merge_seconds
        wait = self._last_sent_at + merge_seconds - self._loop.time()
        if merge_seconds and wait > 0:
            await asyncio.sleep(wait)
            self._wake.clear()

    def _stamp(self, header: FrameHeader) -> None:
        self._sent += 1
        self.counts.sent += 1
        header.sequence = self._sent
        header.last_received_sequence = self._received
        if self._sent == 1:
            header.hello.CopyFrom(hello(self._identity))
        if self._draining:
            header.draining = True

    async def _watch(self) -> None:
        """Send heartbeats; end the stream when the peer is silent or reads nothing.

        Time in which this process's own loop was stuck is not the peer's silence: its frames may be
        waiting unread.
        """
        tick = min(1.0, self._timing.heartbeat_seconds / 4)
        while True:
            before = self._loop.time()
            await asyncio.sleep(tick)
            now = self._loop.time()
            stuck = max(0.0, now - before - 2 * tick)
            self._last_received_at += stuck
            if self._write_began_at is not None:
                self._write_began_at += stuck
            self._check_alive(now)
            if now - self._last_sent_at >= self._timing.heartbeat_seconds - tick:
                self._wake.set()

    def _check_alive(self, now: float) -> None:
        limit = self._timing.silence_seconds if self._received else self._timing.hello_seconds
        if now - self._last_received_at > limit:
            raise StreamLostError(f"{self._peer} was silent for {limit:g} s")
        began = self._write_began_at
        if began is not None and now - began > self._timing.silence_seconds:
            raise StreamLostError(
                f"{self._peer} took no data for {self._timing.silence_seconds:g} s"
            )


def _as_it_is(error: Exception) -> Exception:
    return error


def _describe(error: BaseException, peer: str) -> str:
    if isinstance(error, grpc.aio.AioRpcError):
        return f"{peer}: {error.code().name}: {error.details()}"
    return f"{peer}: {error}" if str(error) else f"{peer}: the stream is closed"

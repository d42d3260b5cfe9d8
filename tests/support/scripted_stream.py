"""A server's end of a shared stream that speaks frames by hand."""

import asyncio
from typing import Any

import grpc

from headrace.rpc.frame_stream import hello
from headrace.runtime.identity import Identity


class ScriptedStream:
    """One stream that an edge opened; `closing` ends it, with a status where one is given.

    Frames are numbered and acknowledged unless the test overrides the header; nothing is taken
    while `reading` is cleared. `Any`, since it serves both frame types.
    """

    def __init__(self, context: grpc.aio.ServicerContext, frame_type: type[Any]) -> None:
        self._context = context
        self._frame_type = frame_type
        self._sequence = 0
        self._received = 0
        self._num_read = 0
        self._closing = asyncio.Event()
        self._changed = asyncio.Event()
        self.has_ended = False
        self.reading = asyncio.Event()
        self.reading.set()
        self.frames: list[Any] = []

    async def serve(self) -> None:
        """Take the edge's frames until `close`."""
        reader = asyncio.create_task(self._take_frames())
        try:
            await self._closing.wait()
        finally:
            reader.cancel()
            await asyncio.gather(reader, return_exceptions=True)

    async def _take_frames(self) -> None:
        while (frame := await self._read_when_open()) is not grpc.aio.EOF:
            self._received = frame.header.sequence
            self.frames.append(frame)
            self._changed.set()
        self.has_ended = True
        self._changed.set()

    async def _read_when_open(self) -> Any:
        await self.reading.wait()
        return await self._context.read()

    def close(self) -> None:
        """End the stream from this side."""
        self._closing.set()

    async def greet(self, *, version: int = 1, max_message_bytes: int | None = None) -> None:
        """Say hello."""
        frame = self._frame_type()
        greeting = hello(Identity())
        greeting.protocol_version = version
        if max_message_bytes is not None:
            greeting.max_message_bytes = max_message_bytes
        frame.header.hello.CopyFrom(greeting)
        await self.send(frame)

    async def send(self, frame: Any = None, *, draining: bool = False) -> None:
        """Send a frame, numbered."""
        frame = self._frame_type() if frame is None else frame
        self._sequence += 1
        frame.header.sequence = self._sequence
        frame.header.last_received_sequence = self._received
        frame.header.draining = draining
        await self._context.write(frame)

    async def read(self) -> Any:
        """The edge's next frame."""
        while self._num_read == len(self.frames):
            await self.changed()
        self._num_read += 1
        return self.frames[self._num_read - 1]

    async def changed(self) -> None:
        """Return when another frame has come; one reader at a time."""
        assert not self.has_ended, "the edge closed the stream"
        self._changed.clear()
        await self._changed.wait()

    async def read_until(self, field: str, count: int = 1) -> list[Any]:
        """All entries of `field` once there have been `count` of them."""
        while len(self.entries(field)) < count:
            await self.changed()
        return self.entries(field)

    def entries(self, field: str) -> list[Any]:
        """All entries of `field` so far."""
        return [entry for frame in self.frames for entry in getattr(frame, field)]

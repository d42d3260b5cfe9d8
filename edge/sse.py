"""`SseWriter`: an answer as server-sent events, written straight to the connection's transport.

Headers and role chunks go out through aiohttp; from then on a delta is one encode, one format and
one `transport.write` in the caller's own turn: no await, no task, no queue. What that assumes:

- aiohttp serves one request of a connection at a time and writes nothing of its own between
  `prepare` and `write_eof`, so raw writes cannot interleave with another response;
- HTTP/1.1 bodies are chunked, HTTP/1.0 bodies end with the connection;
- a transport that is closing takes nothing: what comes is dropped, the request is being aborted;
- while the transport says that its peer is too slow, deltas gather and go out merged.

Before the headers are out deltas gather likewise, and a new attempt of the backend forgets them.
"""

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

from aiohttp import HttpVersion11, web

from edge.openai.answer import DONE_EVENT, ChunkEncoder, Usage, encode_text
from edge.openai.errors import error_frame
from edge.settings import StreamingSettings
from headrace.client.answers import AnswerTimes, OutputResult
from headrace.rpc.errors import ServiceError

_HEADERS = {
    "Content-Type": "text/event-stream; charset=utf-8",
    "Cache-Control": "no-cache",
    "X-Accel-Buffering": "no",
}


class _Output:
    """What one output has to say and could not write yet."""

    __slots__ = ("finish", "texts", "tokens")

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.finish = b""
        self.tokens = 0


class SseWriter:
    """Consumes an answer and writes it as events; `serve` runs beside it and ends with it.

    `has_delivered` turns true with the first text or finish chunk that goes to the transport.
    """

    def __init__(
        self, request: web.Request, encoder: ChunkEncoder, outputs: int, settings: StreamingSettings
    ) -> None:
        """Raises ConnectionResetError when the client is gone already."""
        if request.transport is None:
            raise ConnectionResetError("the client left")
        self.has_delivered = False
        self._request = request
        self._transport: asyncio.Transport = request.transport
        self._is_chunked = request.version >= HttpVersion11
        self._encoder = encoder
        self._settings = settings
        self._outputs = [_Output() for _ in range(outputs)]
        self._times = AnswerTimes()
        self._response: web.StreamResponse | None = None
        self._error: ServiceError | None = None
        self._is_started = False
        self._is_direct = False
        self._end = b""
        self._is_ended = False
        self._wake = asyncio.Event()

    @property
    def is_open(self) -> bool:
        """Whether the headers are out."""
        return self._response is not None

    @property
    def is_ended(self) -> bool:
        """Whether the backend has nothing more to say."""
        return bool(self._end)

    @property
    def failure(self) -> ServiceError | None:
        """What the answer ended with, if it failed."""
        return self._error

    @property
    def usage(self) -> Usage:
        """Token counts so far."""
        return Usage(
            self._times.prompt_tokens,
            self._times.cached_prompt_tokens,
            sum(output.tokens for output in self._outputs),
        )

    # The backend's side: AnswerConsumer.

    def on_started(self, times: AnswerTimes) -> None:
        """Begin an attempt; what an earlier one left unwritten is forgotten."""
        self._times = times
        for output in self._outputs:
            output.texts.clear()
            output.finish, output.tokens = b"", 0
        self._is_started = True
        self._wake.set()

    def text_writer(self, index: int) -> Callable[[str], None]:
        """The hot path: a callable that takes output `index`'s deltas."""
        output = self._outputs[index]
        head, tail = self._encoder.text_affixes(index)
        write, is_closing = self._transport.write, self._transport.is_closing
        protocol = self._request.protocol
        size = len(head) + len(tail)
        framed_tail = tail + b"\r\n"

        def write_chunked(text: str) -> None:
            if self._is_direct and not protocol.writing_paused and not is_closing():
                data = encode_text(text)
                write(b"%x\r\n%b%b%b" % (size + len(data), head, data, framed_tail))
                self.has_delivered = True
            else:
                self._hold(output, text)

        def write_plain(text: str) -> None:
            if self._is_direct and not protocol.writing_paused and not is_closing():
                write(b"%b%b%b" % (head, encode_text(text), tail))
                self.has_delivered = True
            else:
                self._hold(output, text)

        return write_chunked if self._is_chunked else write_plain

    def on_finish(self, index: int, result: OutputResult) -> None:
        """Write or keep the finish chunk."""
        output = self._outputs[index]
        output.tokens = result.completion_tokens
        output.finish = self._encoder.finish(index, result.finish_reason)
        if self._is_writable():
            self._flush(index, output)
        else:
            self._pause()

    def on_done(self) -> None:
        """End the stream with usage, if asked for, and [DONE]."""
        usage = self._encoder.usage(self.usage) if self._encoder.include_usage else b""
        self._finish(usage + DONE_EVENT)

    def on_error(self, error: ServiceError) -> None:
        """End the stream with an error frame, or, before the headers, with the error's status."""
        self._error = error
        self._finish(error_frame(error))

    # The handler's side.

    async def serve(self, headers: Mapping[str, str]) -> web.StreamResponse:
        """Write the whole response; returns when its last byte is handed to the transport.

        Raises ServiceError for a failure before the headers are out, ConnectionResetError when
        the client has stalled and was dropped.
        """
        while not (self._is_started or self._end):
            await self._woken()
        if self._error is not None:
            raise self._error
        response = web.StreamResponse(headers={**_HEADERS, **headers})
        await self._unless_stalled(self._open(response))
        return await self._pump(response)

    async def end_with_error(self, error: ServiceError) -> web.StreamResponse:
        """End a response whose headers are out."""
        if self._response is None:
            raise error
        if not self._end:
            self.on_error(error)
        return await self._pump(self._response)

    async def _open(self, response: web.StreamResponse) -> None:
        if not self._is_chunked:
            response.force_close()
        await response.prepare(self._request)
        self._response = response
        self._transport.set_write_buffer_limits(
            high=self._settings.high_water_bytes, low=self._settings.low_water_bytes
        )
        roles = (self._encoder.role(index) for index in range(len(self._outputs)))
        await response.write(b"".join(roles))
        self._release()

    async def _pump(self, response: web.StreamResponse) -> web.StreamResponse:
        """Sleep until the end; in between only wake for a peer that is too slow."""
        while not self._is_ended:
            if not self._is_direct:
                await self._unless_stalled(self._request.writer.drain())
                self._release()
            else:
                await self._woken()
        if self._error is not None:
            response.force_close()
        await self._unless_stalled(response.write_eof())
        return response

    async def _woken(self) -> None:
        await self._wake.wait()
        self._wake.clear()

    async def _unless_stalled(self, work: Coroutine[Any, Any, None]) -> None:
        """Do what waits for the peer; drop a peer that takes too long."""
        limit = asyncio.timeout(self._settings.stall_timeout_seconds)
        try:
            async with limit:
                await work
        except TimeoutError:
            if not limit.expired():
                raise
            self._transport.abort()
            raise ConnectionResetError("the client stopped reading") from None

    # Writing.

    def _is_writable(self) -> bool:
        return (
            self._is_direct
            and not self._request.protocol.writing_paused
            and not self._transport.is_closing()
        )

    def _hold(self, output: _Output, text: str) -> None:
        """Keep a delta that cannot be written now; nothing is kept for a peer that is gone."""
        if self._transport.is_closing():
            return
        output.texts.append(text)
        self._pause()

    def _pause(self) -> None:
        if self._is_direct:
            self._is_direct = False
            self._wake.set()

    def _finish(self, end: bytes) -> None:
        self._end = end
        if self._is_writable():
            self._write_end()
        else:
            self._pause()
        self._wake.set()

    def _release(self) -> None:
        """Write all that was kept, each output's text in one chunk, and go on directly."""
        self._is_direct = True
        for index, output in enumerate(self._outputs):
            self._flush(index, output)
        if self._end:
            self._write_end()

    def _flush(self, index: int, output: _Output) -> None:
        if output.texts:
            head, tail = self._encoder.text_affixes(index)
            self._write(head + encode_text("".join(output.texts)) + tail)
            output.texts.clear()
            self.has_delivered = True
        if output.finish:
            self._write(output.finish)
            output.finish = b""
            self.has_delivered = True

    def _write_end(self) -> None:
        self._write(self._end)
        self._is_ended = True

    def _write(self, data: bytes) -> None:
        if not self._transport.is_closing():
            self._transport.write(b"%x\r\n%b\r\n" % (len(data), data) if self._is_chunked else data)

"""`SseWriter`: an answer as server-sent events, written straight to the connection's transport.

Headers and role chunks go out through aiohttp; from then on a delta is one encode, one format and
one `transport.write` in the caller's own turn: no await, no task, no queue. What that assumes:

- aiohttp serves one request of a connection at a time and writes nothing of its own between
  `prepare` and `write_eof`, so raw writes cannot interleave with another response;
- HTTP/1.1 bodies are chunked, HTTP/1.0 bodies end with the connection;
- the protocol says when the transport is paused or lost, so that nothing is asked before a write;
- a lost transport takes nothing: what comes is dropped, the request is being aborted;
- while the transport is paused, its peer being too slow, deltas gather and go out merged; a peer
  that stays too slow is dropped by the protocol, which ends the handler. The text that gathers is
  bounded by the answer; log probabilities are hundreds of times as large, and have a bound.

Before the headers are out deltas gather likewise, and a new attempt of the backend forgets them.
Answers that come as events keep what they have to say in an `EventOutput` each.
"""

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from aiohttp import HttpVersion11, web

from edge.event_output import EventOutput
from edge.openai.answer import DONE_EVENT, ChunkEncoder, Usage, encode_text
from edge.openai.call_tally import CallTally
from edge.openai.errors import error_frame
from edge.openai.finish import FinishReason
from edge.openai.logprobs import encode_entries, logprobs_object
from edge.protocol import EdgeProtocol
from headrace.client.answer_events import AnswerEvent, EventWriter, LogprobsWriter, TokenLogprob
from headrace.client.answers import AnswerTimes, OutputResult
from headrace.rpc.errors import ServiceError

_HEADERS = {
    "Content-Type": "text/event-stream; charset=utf-8",
    "Cache-Control": "no-cache",
    "X-Accel-Buffering": "no",
}


# Chunk lengths as they open a chunk; nearly every delta is shorter than the last.
_CHUNK_HEADS = [b"%x\r\n" % length for length in range(1024)]


class _Output:
    """What one output has to say and could not write yet; `logprobs` are the texts' entries.

    `events` is there instead where the answer comes as events.
    """

    __slots__ = ("ended", "events", "finish", "logprobs", "reasoning_tokens", "texts", "tokens")

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.logprobs: list[bytes] = []
        self.forget()

    def forget(self) -> None:
        """Begin anew, with nothing to say."""
        self.texts.clear()
        self.logprobs.clear()
        self.finish, self.tokens, self.reasoning_tokens = b"", 0, 0
        self.events: EventOutput | None = None
        self.ended: FinishReason | None = None


class SseWriter:
    """Consumes an answer and writes it as events; `serve` runs beside it and ends with it.

    `has_delivered` turns true with the first text or finish chunk that goes to the transport.
    """

    def __init__(
        self,
        request: web.Request,
        encoder: ChunkEncoder,
        outputs: int,
        seen: Callable[[ServiceError], ServiceError],
    ) -> None:
        """`seen` turns the backend's errors into those of error frames.

        Raises ConnectionResetError when the client is gone already.
        """
        if request.transport is None:
            raise ConnectionResetError("the client left")
        if not isinstance(request.protocol, EdgeProtocol):
            raise TypeError("the connection's protocol must be an EdgeProtocol")
        self.has_delivered = False
        self.num_stalls = 0
        """How often the client read too slowly, so that deltas had to wait and were merged."""
        self._request = request
        self._transport: asyncio.Transport = request.transport
        self._protocol = request.protocol
        self._is_chunked = request.version >= HttpVersion11
        self._encoder = encoder
        self._seen = seen
        self._outputs = [_Output() for _ in range(outputs)]
        self._times = AnswerTimes()
        self._response: web.StreamResponse | None = None
        self._error: ServiceError | None = None
        self._is_started = False
        self._is_direct = False
        self._is_lost = False
        self._held_bytes = 0
        self._num_open = 0
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
            sum(output.reasoning_tokens for output in self._outputs),
        )

    @property
    def tallies(self) -> Sequence[CallTally]:
        """What was called, output by output; empty where the answer comes as text."""
        return [output.events.tally for output in self._outputs if output.events is not None]

    @property
    def finish_reasons(self) -> Sequence[FinishReason]:
        """Of the outputs that have ended."""
        return [output.ended for output in self._outputs if output.ended is not None]

    # The backend's side: AnswerConsumer.

    def on_started(self, times: AnswerTimes) -> None:
        """The worker took the request up."""
        self._times = times
        self._is_started = True
        self._wake.set()

    def text_writer(self, index: int) -> Callable[[str], None]:
        """The hot path: a callable that takes output `index`'s deltas, of a new attempt."""
        output = self._outputs[index]
        output.forget()
        head, tail = self._encoder.text_affixes(index)
        write, join, size = self._transport.write, b"".join, len(head) + len(tail)

        def write_chunked(text: str) -> None:
            if self._is_direct:
                data = encode_text(text)
                length = size + len(data)
                opening = _CHUNK_HEADS[length] if length < 1024 else b"%x\r\n" % length
                write(join((opening, head, data, tail, b"\r\n")))
                self.has_delivered = True
            else:
                self._hold(output, text)

        def write_plain(text: str) -> None:
            if self._is_direct:
                write(join((head, encode_text(text), tail)))
                self.has_delivered = True
            else:
                self._hold(output, text)

        return write_chunked if self._is_chunked else write_plain

    def logprobs_writer(self, index: int) -> LogprobsWriter:
        """The same with the entries of the deltas' tokens, which go out in the deltas' chunks."""
        output = self._outputs[index]
        output.forget()

        def write(text: str, entries: Sequence[TokenLogprob]) -> None:
            if self._is_lost:
                return
            output.texts.append(text)
            output.logprobs.append(encode_entries(entries))
            if self._is_direct:
                self._flush(index, output)
            else:
                self._count_held(len(output.logprobs[-1]))

        return write

    def event_writer(self, index: int) -> EventWriter:
        """The same where the answer comes as events; entries go with the events they came with."""
        output = self._outputs[index]
        output.forget()
        told = output.events = EventOutput(self._encoder, index)
        self._num_open = 0

        def write(events: Sequence[AnswerEvent], entries: Sequence[TokenLogprob]) -> None:
            if self._is_direct:
                self._tell(index, told.encode(events, entries))
            elif not self._is_lost:
                self._count_held(told.hold(events, entries))

        return write

    def on_finish(self, index: int, result: OutputResult) -> None:
        """Write or keep the finish chunk."""
        output = self._outputs[index]
        output.tokens = result.completion_tokens
        output.reasoning_tokens = result.reasoning_tokens
        if output.events is None:
            output.ended = result.finish_reason
            output.finish = self._encoder.finish(index, result.finish_reason)
        else:
            output.ended = output.events.end(result.finish_reason)
        if self._is_direct:
            self._flush(index, output)

    def on_done(self) -> None:
        """End the stream with usage, if asked for, and [DONE]."""
        usage = self._encoder.usage(self.usage) if self._encoder.include_usage else b""
        self._finish(usage + DONE_EVENT)

    def on_error(self, error: ServiceError) -> None:
        """End the stream with an error frame, or, before the headers, with the error's status."""
        self._error = error
        self._finish(error_frame(self._seen(error)))

    # The handler's side.

    async def serve(self, headers: Mapping[str, str]) -> web.StreamResponse:
        """Write the whole response; returns when its last byte is handed to the transport.

        Raises ServiceError for a failure before the headers are out.
        """
        while not (self._is_started or self._end):
            await self._woken()
        if self._error is not None:
            raise self._error
        response = web.StreamResponse(headers={**_HEADERS, **headers})
        with self._watching():
            await self._open(response)
            return await self._pump(response)

    async def end_with_error(self, error: ServiceError) -> web.StreamResponse:
        """End a response whose headers are out."""
        if self._response is None:
            raise error
        with self._watching():
            if not self._end:
                self.on_error(error)
            return await self._pump(self._response)

    @contextmanager
    def _watching(self) -> Iterator[None]:
        self._protocol.watcher = self
        try:
            yield
        finally:
            self._protocol.watcher = None
            self._is_direct = False

    async def _open(self, response: web.StreamResponse) -> None:
        if not self._is_chunked:
            response.force_close()
        await response.prepare(self._request)
        self._response = response
        await response.write(b"".join(self._roles()))
        await self._request.writer.drain()
        self._release()

    def _roles(self) -> Iterator[bytes]:
        """The first chunks, but of outputs that may begin with a call."""
        for index, output in enumerate(self._outputs):
            if output.events is None or self._encoder.shape.calls_as is None:
                yield self._encoder.role(index)

    async def _pump(self, response: web.StreamResponse) -> web.StreamResponse:
        """Sleep until the end; in between only wake for a peer that is too slow."""
        while not self._is_ended:
            if not self._is_direct:
                await self._request.writer.drain()
                self._release()
            else:
                await self._woken()
        if self._error is not None:
            response.force_close()
        await response.write_eof()
        return response

    async def _woken(self) -> None:
        await self._wake.wait()
        self._wake.clear()

    # Writing.

    def on_paused(self) -> None:
        """The peer is too slow; `serve` waits until it has read."""
        self.num_stalls += 1
        self._is_direct = False
        self._wake.set()

    def on_lost(self) -> None:
        """The connection is gone; the handler is about to be cancelled."""
        self._is_direct = False
        self._is_lost = True

    def _hold(self, output: _Output, text: str) -> None:
        if not self._is_lost:
            output.texts.append(text)

    def _count_held(self, num_bytes: int) -> None:
        self._held_bytes += num_bytes
        if self._held_bytes > self._protocol.max_held_bytes and self.is_open:
            self.on_lost()
            self._protocol.reset()

    def _finish(self, end: bytes) -> None:
        self._end = end
        if self._is_direct:
            self._write_end()
        self._wake.set()

    def _release(self) -> None:
        """Write all that was kept, each output's text in one chunk, and go on directly."""
        self._is_direct = True
        self._held_bytes = 0
        for index, output in enumerate(self._outputs):
            self._flush(index, output)
        if self._end:
            self._write_end()

    def _flush(self, index: int, output: _Output) -> None:
        if output.events is not None:
            self._tell(index, output.events.release())
        if output.texts:
            # Taken first: what cannot be written must not come up again behind the error.
            text, output.texts = "".join(output.texts), []
            logprobs, output.logprobs = output.logprobs, []
            self._write(self._event(index, text, logprobs))
            self.has_delivered = True
        if output.finish:
            self._write(output.finish)
            output.finish = b""
            self.has_delivered = True

    def _tell(self, index: int, data: bytes) -> None:
        """Write chunks of events; empty ones say nothing.

        Clients that number choices as they come take none before those in front of it: these open.
        """
        if not data:
            return
        if index >= self._num_open:
            told = (output.events for output in self._outputs[self._num_open : index])
            data = b"".join(events.opening() for events in told if events is not None) + data
            self._num_open = index + 1
        self._write(data)
        self.has_delivered = True

    def _event(self, index: int, text: str, logprobs: Sequence[bytes]) -> bytes:
        if not logprobs:
            head, tail = self._encoder.text_affixes(index)
            return head + encode_text(text) + tail
        head, between, tail = self._encoder.logprobs_affixes(index)
        return b"".join((head, encode_text(text), between, logprobs_object(logprobs), tail))

    def _write_end(self) -> None:
        self._write(self._end)
        self._is_ended = True

    def _write(self, data: bytes) -> None:
        if not self._is_lost:
            self._transport.write(b"%x\r\n%b\r\n" % (len(data), data) if self._is_chunked else data)

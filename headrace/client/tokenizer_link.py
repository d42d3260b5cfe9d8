"""The edge's end of tokenizer_svc: `Detokenize` on one shared stream, and the unary calls."""

import asyncio
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from typing import Protocol

import grpc

from headrace.client.detokenize_outbox import FeedOutbox
from headrace.client.link import Link
from headrace.client.logprobs import TokenJoin
from headrace.client.output_events import OutputEvents
from headrace.common.v1 import errors_pb2
from headrace.common.v1.errors_pb2 import Failure
from headrace.common.v1.finish_pb2 import FINISH_REASON_UNSPECIFIED, FinishReason
from headrace.rpc.bearer import Metadata
from headrace.rpc.credentials import PeerCredentials
from headrace.rpc.errors import ServiceError, translated_rpc_errors
from headrace.rpc.frame_stream import FrameViolationError
from headrace.rpc.limits import FrameTiming
from headrace.runtime.identity import Identity
from headrace.tokenizer.v1.detokenize_pb2 import (
    DetokenizeOpen,
    DetokenizeRequest,
    DetokenizeResponse,
    OutputDelta,
    StopHit,
    TokenAlternatives,
    TokenBytes,
)
from headrace.tokenizer.v1.model_pb2 import GetModelRequest, GetModelResponse
from headrace.tokenizer.v1.render_pb2 import RenderRequest, RenderResponse
from headrace.tokenizer.v1.service_pb2_grpc import TokenizerServiceStub
from headrace.worker.v1.generation_pb2 import OutputLogprobs

# Several workers' frames come at any time: with many outputs those of 5 ms go out as one, which
# costs a delta at most so much and saves about a sixth of the edge's CPU time.
_MERGE_SECONDS = 0.005
_MANY_OUTPUTS = 64


class TextOutput(Protocol):
    """One output's text; all calls come on the loop."""

    consumed_tokens: int
    released_tokens: int
    logprobs: TokenJoin | None
    events: OutputEvents | None

    def write(self, text: str) -> None:
        """Take a delta, never empty: the hot path."""

    def on_stop_hit(self, hit: StopHit) -> None:
        """A stop string was completed."""

    def on_closed(self) -> None:
        """It was closed and flushed; the link has forgotten it."""

    def on_text_failure(self, failure: Failure) -> None:
        """It failed; the link has forgotten it."""

    def on_tokenizer_lost(self, *, is_crash: bool) -> None:
        """The tokenizer was lost; the link has forgotten the output.

        Not a crash: it was shutting down.
        """


class TokenizerLink(Link[DetokenizeResponse, DetokenizeRequest]):
    """A tokenizer replica. Handles are the caller's, strictly increasing over all its links."""

    kind = "tokenizer"
    direction = "sent"
    _outbox: FeedOutbox

    def __init__(
        self,
        address: str,
        identity: Identity,
        timing: FrameTiming,
        credentials: PeerCredentials | None = None,
    ) -> None:
        super().__init__(address, identity, timing, credentials)
        self._outputs: dict[int, TextOutput] = {}
        self._unreleased: dict[int, OutputEvents] = {}  # what no entry has acknowledged
        self._renders: set[grpc.aio.UnaryUnaryCall] = set()
        self._was_crash = False  # the last loss
        self.models: dict[str, GetModelResponse] = {}
        """What it serves, by name; of the last connection while it is away."""

    @property
    def num_outputs(self) -> int:
        """Outputs open."""
        return len(self._outputs)

    @property
    def pending_tokens(self) -> int:
        """Tokens that wait to be sent."""
        return self._outbox.pending_tokens

    def has(self, handle: int) -> bool:
        """Whether an output is open here."""
        return handle in self._outputs

    def output(self, handle: int) -> TextOutput | None:
        """The output of a handle, if it is open here."""
        return self._outputs.get(handle)

    def open(self, entry: DetokenizeOpen, output: TextOutput) -> None:
        """Begin an output: with its first tokens, or at once where some are known.

        Raises ServiceError: request_too_large.
        """
        size = entry.ByteSize()
        if size + 1024 > self._max_message_bytes:
            raise ServiceError(
                errors_pb2.ERROR_REASON_REQUEST_TOO_LARGE,
                f"what begins the output has {size} bytes; the tokenizer accepts "
                f"{self._max_message_bytes}.",
            )
        self._outputs[entry.handle] = output
        self._outbox.open(entry)
        if entry.prior_token_ids:
            self._wake()

    def feed(
        self,
        handles: Sequence[int],
        counts: Sequence[int],
        token_ids: Sequence[int],
        logprobs: Sequence[OutputLogprobs] = (),
    ) -> None:
        """Send token entries; with the next frame, which carries all that this loop turn adds."""
        alternatives = self._take_logprobs(logprobs) if logprobs else ()
        is_busy = len(self._outputs) >= _MANY_OUTPUTS
        self._outbox.merge_seconds = _MERGE_SECONDS if is_busy else 0.0
        self._outbox.feed(handles, counts, token_ids, alternatives)
        self.answer_tokens += len(token_ids)
        self._wake()

    def _take_logprobs(self, logprobs: Sequence[OutputLogprobs]) -> list[TokenAlternatives]:
        """Give each output its own; returns the alternatives that are to be spelled."""
        alternatives = []
        for entry in logprobs:
            output = self._outputs.get(entry.handle)
            if output is None or output.logprobs is None:
                continue
            output.logprobs.add_logprobs(entry)
            if entry.top_token_ids:
                alternatives.append(
                    TokenAlternatives(
                        handle=entry.handle, counts=entry.top_counts, token_ids=entry.top_token_ids
                    )
                )
        return alternatives

    def finish(self, handle: int, finish_reason: "FinishReason.ValueType") -> None:
        """End an output by the worker's word: what is held back is flushed, `on_closed` follows."""
        if handle in self._outputs:
            self._outbox.close(handle, finish_reason)
            self._wake()

    def abandon(self, handle: int) -> None:
        """Drop an output; nothing more is heard of it."""
        if self._outputs.pop(handle, None) is not None and self._stream is not None:
            self._outbox.close(handle, FINISH_REASON_UNSPECIFIED)
            self._wake()

    async def render(
        self, request: RenderRequest, *, timeout_seconds: float, metadata: Metadata = ()
    ) -> RenderResponse:
        """Render a conversation, in a call with `metadata`; raises ServiceError.

        A tokenizer that is lost meanwhile is not waited for: no_worker_available, or draining where
        it was shutting down.
        """
        size = request.ByteSize()
        if size > self._max_message_bytes:
            raise ServiceError(
                errors_pb2.ERROR_REASON_REQUEST_TOO_LARGE,
                f"the conversation has {size} bytes; the tokenizer accepts "
                f"{self._max_message_bytes}.",
            )
        call = self._stub.Render(
            request, timeout=timeout_seconds, metadata=(*self._metadata(), *metadata)
        )
        self._renders.add(call)
        try:
            # Clients may read what is raised: where the tokenizer runs is not their business.
            with translated_rpc_errors("the tokenizer"):
                response: RenderResponse = await call
        except asyncio.CancelledError:
            if call in self._renders:
                raise
            raise _lost_rendering(is_crash=self._was_crash) from None
        finally:
            self._renders.discard(call)
        return response

    def _use(self, channel: grpc.aio.Channel) -> None:
        self._stub = TokenizerServiceStub(channel)

    def _new_outbox(self) -> FeedOutbox:
        return FeedOutbox()

    def _open(self) -> grpc.aio.StreamStreamCall:
        return self._stub.Detokenize(metadata=self._metadata())

    async def _learn(self) -> None:
        limit = self._timing.hello_seconds
        key = self._metadata()
        first = await self._stub.GetModel(GetModelRequest(), timeout=limit, metadata=key)
        self.models = {first.model: first}
        for name in first.served_models:
            if name != first.model:
                request = GetModelRequest(model=name)
                self.models[name] = await self._stub.GetModel(request, timeout=limit, metadata=key)

    def _on_frame(self, frame: DetokenizeResponse) -> None:
        if frame.token_bytes:
            self._on_token_bytes(frame.token_bytes)
        if frame.output_deltas:
            self._on_events(frame.output_deltas)
        handles = frame.handles
        if handles or frame.consumed_tokens or frame.released_tokens or frame.deltas:
            self._on_text(frame)
        outputs = self._outputs
        for hit in frame.stop_hits:
            output = outputs.get(hit.handle)
            if output is None:
                self.stray_entries += 1
            else:
                output.on_stop_hit(hit)
        for handle in frame.closed_handles:
            output = outputs.pop(handle, None)
            if output is None:
                self.stray_entries += 1
            else:
                output.on_closed()
        for failed in frame.failures:
            output = outputs.pop(failed.handle, None)
            if output is None:
                self.stray_entries += 1
            else:
                output.on_text_failure(failed.failure)

    def _on_token_bytes(self, entries: Iterable[TokenBytes]) -> None:
        for entry in entries:
            output = self._outputs.get(entry.handle)
            if output is None or output.logprobs is None:
                self.stray_entries += 1
            else:
                output.logprobs.add_bytes(entry)

    def _on_events(self, deltas: Iterable[OutputDelta]) -> None:
        for delta in deltas:
            output = self._outputs.get(delta.handle)
            if output is None:
                self.stray_entries += 1
                continue
            if output.events is None:
                raise FrameViolationError(
                    f"tokenizer {self.address} sent an event of output {delta.handle}, which is "
                    "plain text"
                )
            output.events.add(delta)
            self._unreleased[delta.handle] = output.events

    def _release_events(self, handles: Iterable[int]) -> None:
        """Hand on what these outputs say; what others say waits for an entry of theirs."""
        waiting, self._unreleased = self._unreleased, {}
        for handle in handles:
            events = waiting.pop(handle, None)
            output = self._outputs.get(handle)
            if events is not None and output is not None:
                events.release(output.released_tokens)
        for handle, events in waiting.items():
            if handle in self._outputs:
                self._unreleased[handle] = events

    def _on_text(self, frame: DetokenizeResponse) -> None:
        handles, consumed, released = frame.handles, frame.consumed_tokens, frame.released_tokens
        deltas = frame.deltas
        if not len(handles) == len(consumed) == len(released) == len(deltas):
            raise FrameViolationError(
                f"tokenizer {self.address} sent {len(handles)} handles, {len(consumed)} consumed, "
                f"{len(released)} released and {len(deltas)} deltas"
            )
        outputs = self._outputs
        for handle, num_consumed, num_released, delta in zip(
            handles, consumed, released, deltas, strict=True
        ):
            output = outputs.get(handle)
            if output is None:
                self.stray_entries += 1
                continue
            output.consumed_tokens = num_consumed
            output.released_tokens = num_released
            if delta:
                output.write(delta)
        if self._unreleased:
            self._release_events(handles)

    def _on_lost(self, why: str) -> None:
        del why  # the link logs it; it is of no use to a client
        is_crash = self._was_crash = self._stream is None or not self._stream.peer_draining
        renders, self._renders = self._renders, set()
        for call in renders:
            call.cancel()
        outputs = list(self._outputs.values())
        self._outputs.clear()
        self._unreleased.clear()
        # Whatever becomes of one of them, all are told.
        with ExitStack() as told:
            for output in reversed(outputs):
                told.callback(output.on_tokenizer_lost, is_crash=is_crash)


def _lost_rendering(*, is_crash: bool) -> ServiceError:
    if is_crash:
        message = "the tokenizer was lost while it rendered."
        return ServiceError(errors_pb2.ERROR_REASON_NO_WORKER_AVAILABLE, message)
    message = "the tokenizer shut down while it rendered. Please try again."
    return ServiceError(errors_pb2.ERROR_REASON_DRAINING, message)

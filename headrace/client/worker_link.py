"""The edge's end of `Attach`: one worker, its requests, and the frames to and from it."""

import asyncio
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from typing import Protocol

import grpc

from headrace.client.attach_outbox import SubmissionOutbox
from headrace.client.link import Link
from headrace.client.logprobs import fits
from headrace.client.token_log import TokenLog
from headrace.common.v1 import errors_pb2
from headrace.rpc.credentials import PeerCredentials
from headrace.rpc.errors import Reason, ServiceError
from headrace.rpc.frame_stream import FrameViolationError
from headrace.rpc.limits import FrameTiming
from headrace.runtime.identity import Identity
from headrace.worker.v1.attach_pb2 import AttachRequest, AttachResponse, Submission
from headrace.worker.v1.generation_pb2 import (
    GenerationRequest,
    OutputLogprobs,
    Started,
    Terminal,
)
from headrace.worker.v1.model_pb2 import GetModelRequest, GetModelResponse
from headrace.worker.v1.service_pb2_grpc import GenerationServiceStub


class WorkerListener(Protocol):
    """Owns outputs on a worker; all calls come on the loop."""

    def on_worker_started(self, started: Started) -> None:
        """An output was taken up."""

    def on_worker_terminal(self, terminal: Terminal) -> None:
        """An output ended; the link has forgotten it."""

    def on_worker_lost(self, handles: Sequence[int], *, is_crash: bool) -> None:
        """The worker was lost with these outputs of the owner aboard, and the link forgets them.

        Their tokens can still be asked for within the call. Not a crash: it was shutting down.
        """


class TokenFeed(Protocol):
    """Where a frame's token entries go, whole."""

    def feed(
        self,
        handles: Sequence[int],
        counts: Sequence[int],
        token_ids: Sequence[int],
        logprobs: Sequence[OutputLogprobs] = (),
    ) -> None:
        """Take parallel arrays; every handle is open on the calling link.

        `logprobs` are those of these tokens, for the outputs that asked; theirs may be gone.
        """


class WorkerLink(Link[AttachResponse, AttachRequest]):
    """A worker. Token entries never become objects here: a frame's arrays go on to the feed."""

    kind = "worker"
    _outbox: SubmissionOutbox

    def __init__(
        self,
        address: str,
        identity: Identity,
        timing: FrameTiming,
        feed: TokenFeed,
        credentials: PeerCredentials | None = None,
    ) -> None:
        super().__init__(address, identity, timing, credentials)
        self._feed = feed
        self._owners: dict[int, WorkerListener] = {}
        self._aboard: dict[int, WorkerListener] = {}
        """Those whose tokens are kept: the same, and others that the worker has ended."""
        self._log = TokenLog()
        self.models: dict[str, GetModelResponse] = {}
        """What it serves, by served name, its base model first; of the last connection while it is
        away."""

    @property
    def num_outputs(self) -> int:
        """Outputs in flight."""
        return len(self._owners)

    def submit(self, first_handle: int, request: GenerationRequest, owner: WorkerListener) -> None:
        """Send a request; its outputs take n handles from `first_handle`, above all before.

        Raises ServiceError: request_too_large.
        """
        submission = Submission(first_handle=first_handle, request=request)
        size = submission.ByteSize()
        if size + 1024 > self._max_message_bytes:
            raise ServiceError(
                errors_pb2.ERROR_REASON_REQUEST_TOO_LARGE,
                f"the request has {size} bytes; the worker accepts {self._max_message_bytes}.",
            )
        handles = range(first_handle, first_handle + max(1, request.n))
        for handle in handles:
            self._owners[handle] = self._aboard[handle] = owner
            self._log.begin(handle)
        self._outbox.submit(submission, size)
        self._wake()

    def abort(self, handles: Iterable[int], reason: Reason) -> None:
        """End outputs; whatever the worker still says of them is a stray.

        `reason` is why, for what the worker tells of the request; unspecified: it is complete.
        """
        known = [handle for handle in handles if self._owners.pop(handle, None) is not None]
        if known and self._stream is not None:
            self._outbox.abort(known, reason)
            self._wake()

    def tokens_of(self, handle: int) -> list[int]:
        """All that the worker has said of an output that has not been released."""
        return self._log.tokens_of(handle)

    def release(self, handle: int) -> None:
        """Nobody will ask for an output's tokens any more; to be called once for each output."""
        if self._aboard.pop(handle, None) is not None:
            self._log.end(handle)

    def _use(self, channel: grpc.aio.Channel) -> None:
        self._stub = GenerationServiceStub(channel)

    def _new_outbox(self) -> SubmissionOutbox:
        return SubmissionOutbox()

    def _open(self) -> grpc.aio.StreamStreamCall:
        return self._stub.Attach(metadata=self._metadata())

    async def _learn(self) -> None:
        first = await self._described("")
        # A worker that is older than served names has one.
        adapters = [name for name in first.served_models if name != first.model]
        others = await asyncio.gather(*(self._described(name) for name in adapters))
        self.models = {model.model: model for model in (first, *others)}

    async def _described(self, name: str) -> GetModelResponse:
        answer: GetModelResponse = await self._stub.GetModel(
            GetModelRequest(model=name),
            timeout=self._timing.hello_seconds,
            metadata=self._metadata(),
        )
        return answer

    def _on_frame(self, frame: AttachResponse) -> None:
        for started in frame.started:
            owner = self._owners.get(started.handle)
            if owner is None:
                self.stray_entries += 1
            else:
                owner.on_worker_started(started)
        if frame.handles or frame.counts or frame.token_ids:
            self._on_tokens(frame)
        for terminal in frame.terminals:
            owner = self._owners.pop(terminal.handle, None)
            if owner is None:
                self.stray_entries += 1
            else:
                owner.on_worker_terminal(terminal)

    def _on_tokens(self, frame: AttachResponse) -> None:
        handles, counts, token_ids = frame.handles, frame.counts, frame.token_ids
        if len(counts) != len(handles) or sum(counts) != len(token_ids):
            raise FrameViolationError(
                f"worker {self.address} sent {len(handles)} handles, {len(counts)} counts of "
                f"{sum(counts)} tokens and {len(token_ids)} tokens"
            )
        self.answer_tokens += len(token_ids)
        logprobs = frame.logprobs
        if logprobs:
            self._check_logprobs(frame)
        if self._owners.keys() >= set(handles):
            self._hand_on(handles, counts, token_ids, logprobs)
        else:
            self._feed_known(frame)

    def _feed_known(self, frame: AttachResponse) -> None:
        """The same without entries of outputs that are gone: an abort crosses frames under way."""
        handles: list[int] = []
        counts: list[int] = []
        token_ids: list[int] = []
        position = 0
        for handle, count in zip(frame.handles, frame.counts, strict=True):
            if handle in self._owners:
                handles.append(handle)
                counts.append(count)
                token_ids.extend(frame.token_ids[position : position + count])
            else:
                self.stray_entries += 1
            position += count
        if handles:
            logprobs = [entry for entry in frame.logprobs if entry.handle in self._owners]
            self._hand_on(handles, counts, token_ids, logprobs)

    def _hand_on(
        self,
        handles: Sequence[int],
        counts: Sequence[int],
        token_ids: Sequence[int],
        logprobs: Sequence[OutputLogprobs],
    ) -> None:
        if logprobs:
            # The frame itself would keep the log probabilities as long as the log keeps its arrays.
            self._log.add(handles[:], counts[:], token_ids[:])
        else:
            self._log.add(handles, counts, token_ids)
        self._feed.feed(handles, counts, token_ids, logprobs)

    def _check_logprobs(self, frame: AttachResponse) -> None:
        """Raise FrameViolationError unless each entry fits, and has all tokens of its output."""
        missing = dict.fromkeys((entry.handle for entry in frame.logprobs), 0)
        for handle, count in zip(frame.handles, frame.counts, strict=True):
            if handle in missing:
                missing[handle] += count
        for entry in frame.logprobs:
            missing[entry.handle] -= len(entry.logprobs)
            if not fits(entry):
                raise FrameViolationError(
                    f"worker {self.address} sent logprobs of output {entry.handle} whose counts "
                    "do not add up"
                )
        if any(missing.values()):
            raise FrameViolationError(
                f"worker {self.address} sent logprobs of other tokens than the frame has"
            )

    def _on_lost(self, why: str) -> None:
        del why  # the link logs it; it is of no use to a client
        is_crash = self._stream is None or not self._stream.peer_draining
        aboard, self._aboard = self._aboard, {}
        self._owners.clear()
        handles: dict[WorkerListener, list[int]] = {}
        for handle, owner in aboard.items():
            handles.setdefault(owner, []).append(handle)
        # Whatever becomes of one of them, all are told.
        with ExitStack() as told:
            told.callback(self._forget_tokens)
            for owner, own in reversed(handles.items()):
                told.callback(owner.on_worker_lost, own, is_crash=is_crash)

    def _forget_tokens(self) -> None:
        self._log = TokenLog()

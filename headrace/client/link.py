"""A long-lived connection to one peer: connect, serve, lose, back off, connect again.

A lost stream is one event with one owner: `Link.run` notices it, tells the subclass once by
`_on_lost`, and reconnects with jittered back-off. Nothing else watches the stream.
"""

import asyncio
import random
from typing import Any, Generic, TypeVar

import grpc
import structlog

from headrace.client.figures import Direction, LinkFigures, LinkState
from headrace.common.v1 import errors_pb2
from headrace.rpc.bearer import Metadata
from headrace.rpc.credentials import PeerCredentials
from headrace.rpc.end_status import EndStatus
from headrace.rpc.errors import ServiceError, error_from_rpc
from headrace.rpc.frame_stream import (
    Frame,
    FrameCounts,
    FrameStream,
    FrameViolationError,
    StreamLostError,
)
from headrace.rpc.limits import MAX_MESSAGE_BYTES, FrameTiming
from headrace.rpc.outbox import RollingOutbox
from headrace.runtime.identity import Identity

_log = structlog.get_logger(__name__)

_FIRST_BACKOFF_SECONDS = 0.1
_LAST_BACKOFF_SECONDS = 5.0
# A peer that has never answered is most likely still loading its model, and somebody waits for it.
_FIRST_CONTACT_BACKOFF_SECONDS = 0.5

In = TypeVar("In", bound=Frame)
Out = TypeVar("Out", bound=Frame)


class Link(Generic[In, Out]):
    """A peer at `address`; `kind` names it in messages. Subclasses open the stream and read frames.

    `is_serving` is true while requests may be given to it.
    """

    kind = "peer"
    direction: Direction = "received"

    def __init__(
        self,
        address: str,
        identity: Identity,
        timing: FrameTiming,
        credentials: PeerCredentials | None = None,
    ) -> None:
        self.address = address
        self._identity = identity
        self._timing = timing
        self._stream: FrameStream[In, Out] | None = None
        self._is_connected = self._was_connected = False
        self._outbox = self._new_outbox()
        self._max_message_bytes = 0
        self._credentials = credentials or PeerCredentials()
        self._open_channel()
        self.stray_entries = 0
        self.answer_tokens = 0
        """Tokens of answers that its frames carried, in `direction`."""
        self._frames = FrameCounts()
        self.connected = asyncio.Event()
        """Set while the peer is connected, for whoever waits for that."""
        self.refused = asyncio.Event()
        """Set once the peer has refused this process's key."""
        self.is_known = False
        """Whether it has ever said what it serves."""
        self.is_left = False
        """Nothing new is given to it, and its stream, once ended, is not opened again."""

    @property
    def is_connected(self) -> bool:
        """Its stream is open, and what it serves is known."""
        return self._is_connected

    @property
    def is_serving(self) -> bool:
        """Requests may be given to it."""
        stream = self._stream
        is_open = self._is_connected and stream is not None and not stream.peer_draining
        return is_open and not self.is_left

    @property
    def figures(self) -> LinkFigures:
        """What it has counted since the start, over all its connections; on any thread."""
        state: LinkState = "away"
        if self._is_connected:
            state = "serving" if self.is_serving else "draining"
        sent, received = self._frames.sent, self._frames.received
        return LinkFigures(state, sent, received, self.direction, self.answer_tokens)

    def _open_channel(self) -> None:
        self._channel_files = self._credentials.newest()
        self._channel = self._credentials.open_channel(self.address)
        self._use(self._channel)

    async def _renew_channel(self) -> None:
        """Open the channel anew where its TLS files have changed: it keeps what it began with."""
        if self._credentials.newest() is not self._channel_files:
            await self._channel.close()
            self._open_channel()

    def _use(self, channel: grpc.aio.Channel) -> None:
        """Make all calls on this channel from now on."""
        raise NotImplementedError

    def _metadata(self) -> Metadata:
        """What every call to the peer carries: this process's key, if it has one."""
        return self._credentials.own_key.metadata()

    def _new_outbox(self) -> RollingOutbox[Out]:
        raise NotImplementedError

    def _open(self) -> grpc.aio.StreamStreamCall:
        """Open the stream's call."""
        raise NotImplementedError

    async def _learn(self) -> None:
        """Ask the connected peer what it serves."""
        raise NotImplementedError

    def _on_frame(self, frame: In) -> None:
        raise NotImplementedError

    def _on_lost(self, why: str) -> None:
        """The stream ended, for whatever reason: settle everything that was on it."""
        raise NotImplementedError

    def _wake(self) -> None:
        """The outbox has something to send."""
        if self._stream is not None:
            self._stream.wake()

    async def run(self) -> None:
        """Keep the peer connected until cancelled, or until it is lost after it was left."""
        backoff, limit = _FIRST_BACKOFF_SECONDS, _FIRST_CONTACT_BACKOFF_SECONDS
        while True:
            why = await self._supervised()
            if self.is_left:
                _log.info("peer_closed", kind=self.kind, address=self.address, why=why)
                return
            if self._was_connected:
                backoff, limit = _FIRST_BACKOFF_SECONDS, _LAST_BACKOFF_SECONDS
                _log.warning("peer_lost", kind=self.kind, address=self.address, why=why)
            else:
                _log.info("peer_unreachable", kind=self.kind, address=self.address, why=why)
            await asyncio.sleep(backoff * random.uniform(0.5, 1.0))  # noqa: S311 (jitter)
            backoff = min(limit, backoff * 2)

    async def _supervised(self) -> str:
        try:
            return await self._serve_once()
        except Exception as error:  # noqa: BLE001 (supervisor: a bug costs a stream, not the link)
            _log.error("link_failed", kind=self.kind, address=self.address, exc_info=error)
            return "an error of this process"

    async def close(self) -> None:
        """Close the channel; `run` has been cancelled before."""
        await self._channel.close()

    async def _serve_once(self) -> str:
        """One connection, from opening to loss; returns why it ended."""
        self._was_connected = False
        self._outbox = self._new_outbox()
        await self._renew_channel()
        call = self._open()
        self._stream = FrameStream(
            call,
            self._outbox,
            self._on_frame,
            self._identity,
            peer=f"{self.kind} {self.address}",
            timing=self._timing,
        )
        self._stream.counts = self._frames
        self._stream.told = EndStatus(call).told
        serving = asyncio.create_task(self._stream.run())
        why = "the peer closed the stream"
        try:
            await self._greet(serving)
            await serving
        except (StreamLostError, FrameViolationError, ServiceError) as error:
            why = str(error) if self._was_connected else self._credentials.explain(str(error))
            if _is_key_refused(error):
                self.refused.set()
        finally:
            await self._settle(serving, call, why)
        return why

    async def _greet(self, serving: asyncio.Task[None]) -> None:
        assert self._stream is not None  # noqa: S101 (set by the caller)
        greeting = self._stream.peer_hello
        either: list[asyncio.Future[Any]] = [serving, greeting]
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        if not greeting.done() or greeting.cancelled():
            return
        # What the peer takes, and gRPC at this end lets out.
        self._max_message_bytes = min(greeting.result().max_message_bytes, MAX_MESSAGE_BYTES)
        try:
            await self._learn()
        except grpc.aio.AioRpcError as error:
            raise error_from_rpc(error, peer=f"{self.kind} {self.address}") from error
        if serving.done():
            return
        self._is_connected = self._was_connected = self.is_known = True
        self.connected.set()
        self.refused.clear()
        _log.info(
            "peer_connected",
            kind=self.kind,
            address=self.address,
            build=greeting.result().build,
            instance_id=greeting.result().instance_id,
        )

    async def _settle(
        self, serving: asyncio.Task[None], call: grpc.aio.StreamStreamCall, why: str
    ) -> None:
        self._is_connected = False
        self.connected.clear()
        try:
            self._on_lost(why)
        finally:
            serving.cancel()
            await asyncio.gather(serving, return_exceptions=True)
            call.cancel()
            self._stream = None


def _is_key_refused(error: Exception) -> bool:
    """Whether a stream or its first questions ended since the peer does not know the key."""
    cause = error.__cause__
    if not isinstance(cause, grpc.aio.AioRpcError):
        return False
    reason = error_from_rpc(cause, peer="").reason
    return reason == errors_pb2.ERROR_REASON_INVALID_API_KEY

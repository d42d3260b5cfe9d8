"""What is under way in this process: unary calls and open outputs; and what has been done."""

import asyncio
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from headrace.common.v1 import errors_pb2
from headrace.rpc.errors import ServiceError
from headrace.rpc.frame_stream import FrameCounts
from tokenizer_svc.outputs import EndReason


class Activity:
    """Counts what is under way; refuses what is new once it is draining.

    What has been done only grows: plain numbers, which any thread may read at any time.
    `refusals` counts by reason and tenant class, `fed_tokens` tokens that came to be decoded.
    """

    def __init__(self) -> None:
        self._calls = 0
        self.open_outputs = 0
        self.stray_entries = 0
        self.frames = FrameCounts()
        self.fed_tokens = 0
        self.detokenize_seconds = 0.0
        self.ended_outputs: Counter[EndReason] = Counter()
        self.refusals: Counter[tuple[str, str]] = Counter()
        self.is_draining = False
        self._idle = asyncio.Event()
        self._idle.set()

    def require_open(self) -> None:
        """Raise ServiceError DRAINING once nothing new is taken."""
        if self.is_draining:
            message = "the tokenizer is shutting down"
            raise ServiceError(errors_pb2.ERROR_REASON_DRAINING, message)

    @contextmanager
    def call(self) -> Iterator[None]:
        """A unary call, from its beginning to its end."""
        self.require_open()
        self._calls += 1
        self._update()
        try:
            yield
        finally:
            self._calls -= 1
            self._update()

    def add_outputs(self, change: int) -> None:
        """So many more outputs are open; negative for fewer."""
        if change:
            self.open_outputs += change
            self._update()

    async def idle(self) -> None:
        """Return when nothing is under way."""
        await self._idle.wait()

    def _update(self) -> None:
        if self._calls or self.open_outputs:
            self._idle.clear()
        else:
            self._idle.set()

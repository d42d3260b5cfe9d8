"""The frame under construction, for all four directions: entries in, frames of bounded size out."""

from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

from headrace.rpc.limits import MERGE_BYTES

FrameT = TypeVar("FrameT")

ARRAY_ENTRY_BYTES = 16
"""At most what one handle, count and token id take together, and what one handle takes alone."""


class RollingOutbox(Generic[FrameT]):
    """Entries wait here until the writer takes them.

    A subclass adds entries to the frame that `_room_for` returns. A frame is closed between
    additions, never within one: the order in which entries were added is the order in which frames
    carry them. An entry larger than a frame goes alone.
    """

    def __init__(self, new_frame: Callable[[], FrameT]) -> None:
        self._new_frame = new_frame
        self._frame = new_frame()
        self._bytes = 0
        self._tokens = 0
        self._waiting: deque[tuple[FrameT, int]] = deque()
        self.pending_tokens = 0
        """Tokens that wait in all frames, and their alternatives."""
        self.merge_seconds = 0.0
        """Least time between two frames; its owner may change it at any time."""

    @property
    def is_empty(self) -> bool:
        """Nothing waits."""
        return not self._bytes and not self._waiting

    def take(self) -> FrameT:
        """The oldest frame; an empty one when nothing waits."""
        if not self._waiting:
            self._close()
        frame, tokens = self._waiting.popleft()
        self.pending_tokens -= tokens
        return frame

    def _room_for(self, size_bytes: int, tokens: int = 0) -> FrameT:
        """The frame to add an entry of about this size to."""
        if self._bytes and self._bytes + size_bytes > MERGE_BYTES:
            self._close()
        self._bytes += size_bytes
        self._tokens += tokens
        self.pending_tokens += tokens
        return self._frame

    def _close(self) -> None:
        self._waiting.append((self._frame, self._tokens))
        self._frame, self._bytes, self._tokens = self._new_frame(), 0, 0

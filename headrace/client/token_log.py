"""What a worker has said of its running outputs, so that each can go on elsewhere.

A frame's arrays are kept as they came: one append a frame. An output's tokens are looked for only
when it has lost its worker or its tokenizer, and then those of all outputs at once. What is so old
that only long outputs are among it is gathered by output, a few frames at a time, and the rest of
it is forgotten: one long output does not keep what all the short ones beside it have said.
"""

from array import array
from collections import deque
from collections.abc import Sequence

_Frame = tuple[Sequence[int], Sequence[int], Sequence[int]]

_FRAMES_BETWEEN_DROPS = 16
_MOST_FRAMES = 2048
"""Frames that are kept as they came; one of a token takes 1 kB, one of 256 tokens 5 kB."""


class TokenLog:
    """The frames since the oldest open output was begun; with nothing open it is empty.

    Its size is bounded by so many frames, and 4 bytes for each older token of open outputs.
    """

    def __init__(self) -> None:
        self._frames: deque[_Frame] = deque()
        self._next = 0
        """Number of the next frame; that of the first kept one is less by their count."""
        self._begins: dict[int, int] = {}
        """Open outputs by handle, in the order of their begins: the frames' number then."""
        self._gathered: dict[int, array[int]] = {}
        """Of open outputs the tokens in front of the kept frames."""
        self._read: dict[int, array[int]] | None = None

    def begin(self, handle: int) -> None:
        """An output begins; its handle is above all before."""
        self._begins[handle] = self._next
        self._gathered[handle] = array("I")

    def end(self, handle: int) -> None:
        """An output is over, and its tokens are of no use any more; unknown ones are ignored."""
        self._begins.pop(handle, None)
        self._gathered.pop(handle, None)
        if not self._begins:
            self._frames.clear()
            self._read = None

    def add(self, handles: Sequence[int], counts: Sequence[int], token_ids: Sequence[int]) -> None:
        """Keep a frame's parallel arrays, whose counts add up; they are not to be changed."""
        if not self._begins:
            return
        self._frames.append((handles, counts, token_ids))
        self._next += 1
        self._read = None
        if not self._next % _FRAMES_BETWEEN_DROPS:
            self._drop()

    def _drop(self) -> None:
        oldest = next(iter(self._begins.values()))
        while self._next - len(self._frames) < oldest:
            self._frames.popleft()
        while len(self._frames) > _MOST_FRAMES:
            _gather(self._frames.popleft(), self._gathered)

    def tokens_of(self, handle: int) -> list[int]:
        """All that came of an open output; empty for one that is not open."""
        if handle not in self._begins:
            return []
        if self._read is None:
            self._read = self._read_all()
        found = self._read.get(handle)
        return [] if found is None else found.tolist()

    def _read_all(self) -> "dict[int, array[int]]":
        found = {handle: token_ids[:] for handle, token_ids in self._gathered.items()}
        for frame in self._frames:
            _gather(frame, found)
        return found


def _gather(frame: _Frame, outputs: "dict[int, array[int]]") -> None:
    """Add to each of these outputs what the frame has of it."""
    handles, counts, token_ids = frame
    position = 0
    for handle, count in zip(handles, counts, strict=True):
        if handle in outputs:
            outputs[handle].extend(token_ids[position : position + count])
        position += count

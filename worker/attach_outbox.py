"""The frame under construction from a worker to one edge."""

from collections import deque
from collections.abc import Sequence

from headrace.rpc.limits import MERGE_ENTRIES
from headrace.worker.v1.attach_pb2 import AttachResponse
from headrace.worker.v1.generation_pb2 import OutputLogprobs, Started, Terminal


class AttachOutbox:
    """Entries wait here until the writer takes them; order within a frame as in attach.proto.

    A frame is closed between additions, never within one, so that an output's tokens never leave
    before they were accepted nor after they ended. One iteration is far below a frame's limit.
    """

    def __init__(self) -> None:
        self._frame = AttachResponse()
        self._entries = 0
        self._waiting: deque[AttachResponse] = deque()
        self.pending_tokens = 0

    @property
    def is_empty(self) -> bool:
        """Nothing waits."""
        return not self._entries and not self._waiting

    def accept(self, handles: Sequence[int]) -> None:
        """Add accepted outputs."""
        self._frame.accepted_handles.extend(handles)
        self._added(len(handles))

    def start(self, started: Started) -> None:
        """Add an output that was taken up."""
        self._frame.started.append(started)
        self._added(2)

    def tokens(
        self,
        handles: Sequence[int],
        counts: Sequence[int],
        token_ids: Sequence[int],
        logprobs: Sequence[OutputLogprobs] = (),
    ) -> None:
        """Add one iteration's token entries, parallel arrays, with what logprobs they have."""
        frame = self._frame
        frame.handles.extend(handles)
        frame.counts.extend(counts)
        frame.token_ids.extend(token_ids)
        if logprobs:
            frame.logprobs.extend(logprobs)
            self._entries += sum(4 + len(entry.top_token_ids) for entry in logprobs)
        self.pending_tokens += len(token_ids)
        self._added(len(token_ids))

    def end(self, terminal: Terminal) -> None:
        """Add an output's end."""
        self._frame.terminals.append(terminal)
        self._added(8)

    def take(self) -> AttachResponse:
        """The oldest frame; empty when nothing waits."""
        if self._waiting:
            frame = self._waiting.popleft()
        else:
            frame, self._frame, self._entries = self._frame, AttachResponse(), 0
        self.pending_tokens -= len(frame.token_ids)
        return frame

    def _added(self, entries: int) -> None:
        self._entries += entries
        if self._entries > MERGE_ENTRIES:
            self._waiting.append(self._frame)
            self._frame, self._entries = AttachResponse(), 0

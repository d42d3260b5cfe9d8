"""The frame under construction from a worker to one edge."""

from collections.abc import Sequence

from headrace.rpc.outbox import ARRAY_ENTRY_BYTES, RollingOutbox
from headrace.worker.v1.attach_pb2 import AttachResponse
from headrace.worker.v1.generation_pb2 import OutputLogprobs, Started, Terminal


class AttachOutbox(RollingOutbox[AttachResponse]):
    """Entries of attach.proto's AttachResponse."""

    def __init__(self) -> None:
        super().__init__(AttachResponse)

    def accept(self, handles: Sequence[int]) -> None:
        """Add accepted outputs."""
        self._room_for(ARRAY_ENTRY_BYTES * len(handles)).accepted_handles.extend(handles)

    def start(self, started: Started) -> None:
        """Add an output that was taken up."""
        self._room_for(started.ByteSize() + 4).started.append(started)

    def tokens(
        self,
        handles: Sequence[int],
        counts: Sequence[int],
        token_ids: Sequence[int],
        logprobs: Sequence[OutputLogprobs] = (),
    ) -> None:
        """Add one iteration's token entries, parallel arrays, with what logprobs they have.

        Alternatives count among the pending tokens too.
        """
        size, num_tokens = ARRAY_ENTRY_BYTES * len(token_ids), len(token_ids)
        if logprobs:
            size += sum(entry.ByteSize() + 4 for entry in logprobs)
            num_tokens += sum(len(entry.top_token_ids) for entry in logprobs)
        frame = self._room_for(size, num_tokens)
        frame.handles.extend(handles)
        frame.counts.extend(counts)
        frame.token_ids.extend(token_ids)
        frame.logprobs.extend(logprobs)

    def end(self, terminal: Terminal) -> None:
        """Add an output's end."""
        self._room_for(terminal.ByteSize() + 4).terminals.append(terminal)

"""The frame under construction from the edge to one tokenizer."""

from collections.abc import Sequence

from headrace.common.v1.finish_pb2 import FinishReason
from headrace.rpc.outbox import ARRAY_ENTRY_BYTES, RollingOutbox
from headrace.tokenizer.v1.detokenize_pb2 import (
    DetokenizeClose,
    DetokenizeOpen,
    DetokenizeRequest,
    TokenAlternatives,
)


class FeedOutbox(RollingOutbox[DetokenizeRequest]):
    """Entries of detokenize.proto's DetokenizeRequest."""

    def __init__(self) -> None:
        super().__init__(DetokenizeRequest)

    def open(self, entry: DetokenizeOpen) -> None:
        """Add an output that begins."""
        self._room_for(entry.ByteSize() + 4).opens.append(entry)

    def feed(
        self,
        handles: Sequence[int],
        counts: Sequence[int],
        token_ids: Sequence[int],
        alternatives: Sequence[TokenAlternatives] = (),
    ) -> None:
        """Add token entries, parallel arrays, and what alternatives their tokens have."""
        # An entry without tokens is an entry all the same.
        size, num_tokens = ARRAY_ENTRY_BYTES * max(len(handles), len(token_ids)), len(token_ids)
        if alternatives:
            size += sum(entry.ByteSize() + 4 for entry in alternatives)
            num_tokens += sum(len(entry.token_ids) for entry in alternatives)
        frame = self._room_for(size, num_tokens)
        frame.handles.extend(handles)
        frame.counts.extend(counts)
        frame.token_ids.extend(token_ids)
        if alternatives:
            frame.alternatives.extend(alternatives)

    def close(self, handle: int, finish_reason: "FinishReason.ValueType") -> None:
        """Add an output that ends; an unspecified reason abandons it."""
        entry = DetokenizeClose(handle=handle, finish_reason=finish_reason)
        self._room_for(ARRAY_ENTRY_BYTES).closes.append(entry)

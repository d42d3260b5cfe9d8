"""The frame under construction from the edge to one tokenizer."""

from collections.abc import Sequence

from headrace.common.v1.finish_pb2 import FinishReason
from headrace.rpc.outbox import ARRAY_ENTRY_BYTES, RollingOutbox
from headrace.tokenizer.v1.detokenize_pb2 import (
    DetokenizeClose,
    DetokenizeOpen,
    DetokenizeRequest,
)


class FeedOutbox(RollingOutbox[DetokenizeRequest]):
    """Entries of detokenize.proto's DetokenizeRequest."""

    def __init__(self) -> None:
        super().__init__(DetokenizeRequest)

    def open(self, entry: DetokenizeOpen) -> None:
        """Add an output that begins."""
        self._room_for(entry.ByteSize() + 4).opens.append(entry)

    def feed(self, handles: Sequence[int], counts: Sequence[int], token_ids: Sequence[int]) -> None:
        """Add token entries: parallel arrays."""
        # An entry without tokens is an entry all the same.
        entries = max(len(handles), len(token_ids))
        frame = self._room_for(ARRAY_ENTRY_BYTES * entries, len(token_ids))
        frame.handles.extend(handles)
        frame.counts.extend(counts)
        frame.token_ids.extend(token_ids)

    def close(self, handle: int, finish_reason: "FinishReason.ValueType") -> None:
        """Add an output that ends; an unspecified reason abandons it."""
        entry = DetokenizeClose(handle=handle, finish_reason=finish_reason)
        self._room_for(ARRAY_ENTRY_BYTES).closes.append(entry)

"""The frame under construction from the edge to one worker."""

from collections.abc import Iterable

from headrace.rpc.errors import Reason
from headrace.rpc.outbox import ARRAY_ENTRY_BYTES, RollingOutbox
from headrace.worker.v1.attach_pb2 import AttachRequest, Submission


class SubmissionOutbox(RollingOutbox[AttachRequest]):
    """Entries of attach.proto's AttachRequest."""

    def __init__(self) -> None:
        super().__init__(AttachRequest)

    def submit(self, submission: Submission, size_bytes: int) -> None:
        """Add a request of `size_bytes`."""
        self._room_for(size_bytes + 8).submissions.append(submission)

    def abort(self, handles: Iterable[int], reason: Reason) -> None:
        """Add outputs to end, all for one reason; an unspecified one is: they are complete."""
        listed = list(handles)
        frame = self._room_for(ARRAY_ENTRY_BYTES * len(listed))
        frame.aborted_handles.extend(listed)
        frame.abort_reasons.extend([reason] * len(listed))

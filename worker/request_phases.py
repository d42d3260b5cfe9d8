"""Where a request's time went: queue, prefill, decode, from what its engine noted. Pure.

The phases adjoin: one begins where the one before it ended, the first at the submission. The last
one is the one in which the request ended; those after it do not exist. Several outputs have one set
of phases: prefill ends with the first token of any, decode with the last one's end.
"""

from typing import NamedTuple

from headrace.telemetry.names import DECODE_PHASE, PREFILL_PHASE, QUEUE_PHASE
from worker.request_end import RequestEnd


class Phase(NamedTuple):
    """A phase; times in seconds of `time.monotonic`. `is_whole`: the request went on or ended well.

    What is not whole was cut by the request's failure.
    """

    name: str
    begin: float
    end: float
    is_whole: bool

    @property
    def seconds(self) -> float:
        """How long it was."""
        return self.end - self.begin


def request_phases(submitted_at: float, ended_at: float, ended: RequestEnd) -> list[Phase]:
    """The phases that there were, at least the queue; all of them within the two times.

    A first token that nobody was told of, since the request was aborted, was none.
    """
    progress = ended.request.progress
    # What a stop string completed had its last token just now.
    last = progress.last_token_at if ended.abort_cause is None else ended_at
    begin = submitted_at
    phases = []
    for name, noted in (
        (QUEUE_PHASE, progress.fed_at),
        (PREFILL_PHASE, progress.first_token_at if ended.started else None),
        (DECODE_PHASE, None if ended.failure else last),
    ):
        end = ended_at if noted is None else min(max(noted, begin), ended_at)
        phases.append(Phase(name, begin, end, is_whole=noted is not None))
        if noted is None:
            break
        begin = end
    return phases

"""What a running request has met with at its peers, and whether it may be tried once more.

A crash may be the request's own doing: whoever was aboard two of them is not tried a third time. A
shutdown is nobody's doing, and a refusal is answered by asking one other worker.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from headrace.client.attempt_output import AttemptOutput
from headrace.client.worker_link import WorkerLink
from headrace.common.v1 import errors_pb2
from headrace.rpc.errors import ServiceError

_MOVABLE = frozenset({errors_pb2.ERROR_REASON_DRAINING, errors_pb2.ERROR_REASON_OVERLOADED})
"""A worker's refusals that another worker need not share."""
_CONTINUING = frozenset({"output_prefix_token_ids", "output_index"})
"""The parameters that say where an output goes on."""
_MOST_CRASHES = 1
_MOST_REFUSALS = 1
_MOST_MOVES = 64
"""How often an output goes on elsewhere: a large pool may be rolled under one answer."""


@dataclass(frozen=True, slots=True)
class Setback:
    """Why outputs cannot stay where they are; `refused_by` is the worker that gave them up."""

    error: ServiceError
    refused_by: WorkerLink | None = None

    @property
    def avoided(self) -> frozenset[WorkerLink]:
        """Workers to which the outputs are not to be given."""
        return frozenset() if self.refused_by is None else frozenset({self.refused_by})


def peer_lost(num_crashes: int, *, is_crash: bool) -> ServiceError:
    """A worker or tokenizer is gone; with so many crashes, this one included.

    It is final where they were too many: a client that repeats the request loses more of them.
    """
    if not is_crash:
        return ServiceError(
            errors_pb2.ERROR_REASON_DRAINING,
            "The server that was generating this answer is shutting down. Please try again.",
        )
    return ServiceError(
        errors_pb2.ERROR_REASON_WORKER_LOST,
        "The server that was generating this answer was lost.",
        is_final=num_crashes > _MOST_CRASHES,
    )


def is_movable(error: ServiceError) -> bool:
    """Whether another worker may take what this one refused."""
    return error.reason in _MOVABLE


def cannot_continue(error: ServiceError) -> bool:
    """Whether a worker refused an output for what others had generated of it."""
    return error.param in _CONTINUING


class Setbacks:
    """Those of one request; refusals are also counted by output, as are tokenizers' crashes."""

    __slots__ = ("_num_crashes", "_num_refusals", "last")

    def __init__(self) -> None:
        self._num_crashes = self._num_refusals = 0
        self.last: Setback | None = None
        """For which outputs were to go to another worker."""

    def worker_lost(self, *, is_crash: bool) -> Setback:
        """A worker is gone with outputs of the request aboard."""
        self._num_crashes += is_crash
        return Setback(peer_lost(self._num_crashes, is_crash=is_crash))

    def admit_move(self, outputs: Sequence[AttemptOutput], setback: Setback) -> bool:
        """Take note of this; returns whether outputs may go to another worker because of it."""
        self.last = setback
        return not setback.error.is_final and not any(
            output.num_refusals > _MOST_REFUSALS or output.num_moves >= _MOST_MOVES
            for output in outputs
        )

    def admit_anew(self, setback: Setback) -> bool:
        """Count this if it is a refusal, of which one is allowed.

        Returns whether the request may be given to another worker as a whole.
        """
        if setback.refused_by is None:
            return True
        self._num_refusals += 1
        return self._num_refusals <= _MOST_REFUSALS


def may_reopen(output: AttemptOutput, error: ServiceError) -> bool:
    """Whether an output may go to another tokenizer because of this."""
    return not error.is_final and output.num_moves < _MOST_MOVES

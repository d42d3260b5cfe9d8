"""How one HTTP request ended: what its log line, its span and the metrics say alike."""

from dataclasses import dataclass
from typing import Final

from headrace.common.v1 import errors_pb2
from headrace.rpc.errors import reason_label

CLIENT_GONE_STATUS: Final = 499
"""In logs and metrics, of a request whose client did not wait for the end of its answer."""
DROPPED: Final = reason_label(errors_pb2.ERROR_REASON_SLOW_READER)
"""The reason where it was dropped, since it read too slowly."""


@dataclass(frozen=True, slots=True)
class RequestOutcome:
    """`reason` is a label of the error table; None = it ended well.

    `method` and `route` are of few values, whatever was asked for; `seconds` count from the
    arrival of its head.
    """

    method: str
    route: str
    status: int
    reason: str | None
    seconds: float
    is_probe: bool

"""The canonical line of an output: one at its end, and no text in it.

What is lost with its stream is told together, in one line: so many lines at once would hold up
every other stream.
"""

from collections import Counter
from collections.abc import Mapping
from time import monotonic
from typing import NamedTuple

import structlog

from headrace.rpc.call_metadata import MAX_REQUEST_ID_CHARACTERS
from headrace.rpc.errors import ServiceError
from headrace.telemetry.trace_context import read_trace_context
from headrace.tokenizer.v1.detokenize_pb2 import DetokenizeOpen
from tokenizer_svc.formatted_detokenizer import FormattedDetokenizer
from tokenizer_svc.outputs import EndReason, OutputState

_log = structlog.get_logger(__name__)
_MAX_MODEL_CHARACTERS = 256
_MAX_LOST_IDS = 8


class _Opened(NamedTuple):
    """What of the line is known from the beginning; `began` in monotonic seconds.

    Bounded, since nothing bounds what an open says of its request.
    """

    request_id: str
    trace_id: str
    model: str
    began: float


class OutputLog:
    """The outputs of one stream; `ends` counts how those of all streams ended."""

    def __init__(self, ends: Counter[EndReason]) -> None:
        self._ends = ends
        self._opened: dict[int, _Opened] = {}

    def opened(self, request: DetokenizeOpen) -> None:
        """An output is about to begin."""
        is_short = len(request.request_id) <= MAX_REQUEST_ID_CHARACTERS
        self._opened[request.handle] = _Opened(
            request.request_id if is_short else "",
            read_trace_context([request.traceparent], []).trace_id,
            request.decoder.model[:_MAX_MODEL_CHARACTERS],
            monotonic(),
        )

    def ended(
        self,
        handle: int,
        reason: EndReason,
        state: OutputState | None = None,
        error: ServiceError | None = None,
    ) -> None:
        """An output is over; without `state` it was refused, for `error`."""
        opened = self._opened.pop(handle)
        self._ends[reason] += 1
        failure = {} if error is None else {"error": error.label}
        _log.info(
            "output_ended",
            request_id=opened.request_id,
            trace_id=opened.trace_id,
            model=opened.model,
            reason=reason,
            tokens=0 if state is None else state.consumed,
            reasoning_tokens=_reasoning_tokens(state),
            seconds=round(monotonic() - opened.began, 6),
            **failure,
        )

    def lost(self, states: Mapping[int, OutputState]) -> None:
        """The stream has ended with these outputs open."""
        if not states:
            return
        opened = [self._opened.pop(handle) for handle in states]
        self._ends["stream_lost"] += len(states)
        first = list(dict.fromkeys((each.request_id, each.trace_id) for each in opened))
        _log.info(
            "outputs_lost",
            reason="stream_lost",
            outputs=len(states),
            tokens=sum(state.consumed for state in states.values()),
            first_request_ids=[request_id for request_id, _ in first[:_MAX_LOST_IDS]],
            first_trace_ids=[trace_id for _, trace_id in first[:_MAX_LOST_IDS]],
            longest_seconds=round(monotonic() - min(each.began for each in opened), 6),
        )


def _reasoning_tokens(state: OutputState | None) -> int:
    return state.reasoning_tokens if isinstance(state, FormattedDetokenizer) else 0

"""The line of requests that are lost with their edge: one for all of them.

So many lines at once would hold up every other stream. Spans and figures are made for each.
"""

from collections.abc import Sequence

import structlog

from worker.active_requests import ActiveRequest

_log = structlog.get_logger("worker.request")
_MAX_IDS = 8


def log_lost(requests: Sequence[ActiveRequest]) -> None:
    """Write the line of requests that have been released; none where there are none."""
    if not requests:
        return
    first = [request.report for request in requests[:_MAX_IDS]]
    _log.info(
        "requests_lost",
        abort_cause="stream_ended",
        requests=len(requests),
        output_tokens=sum(request.generated_tokens for request in requests),
        first_request_ids=[report.request_id for report in first],
        first_trace_ids=[report.trace.trace_id for report in first],
    )

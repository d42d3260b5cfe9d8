"""What the edge knows of one HTTP request while it lasts."""

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from aiohttp import web

from edge.answer_report import AnswerReport
from edge.openai.ids import mint_request_id
from headrace.access.caller import Caller
from headrace.access.key_ring import KeyHolder, anybody
from headrace.rpc.errors import ServiceError
from headrace.telemetry.spans import Span
from headrace.telemetry.trace_context import NO_TRACE, TraceContext


class OpenStream(Protocol):
    """A response whose headers may be out already."""

    @property
    def is_open(self) -> bool:
        """Whether the headers are out, so that an error must become a frame."""

    async def end_with_error(self, error: ServiceError) -> web.StreamResponse:
        """Write the error frame and end the response."""


@dataclass(slots=True, eq=False)
class RequestScope:
    """Identity of a request and what its log line will say; `limit` ends its work early.

    `began` is when its head had arrived, in seconds of the monotonic clock. `span` is its server
    span, None for probes; `trace` is what those who work for it belong to. `sent_status` is that of
    the response whose head went out. `refusal` is why its body is not asked for.

    `holder` is whose key came with it: everybody, where no keys are configured.
    """

    request_id: str = field(default_factory=mint_request_id)
    began: float = field(default_factory=time.monotonic)
    trace: TraceContext = NO_TRACE
    span: Span | None = None
    sent_status: int | None = None
    refusal: ServiceError | None = None
    holder: KeyHolder = field(default_factory=anybody)
    profile: str | None = None
    model: str | None = None
    is_stream: bool = False
    labels: Mapping[str, object] = field(default_factory=dict)
    prompt_tokens: int = 0
    cached_prompt_tokens: int = 0
    completion_tokens: int = 0
    answer: AnswerReport = field(default_factory=AnswerReport)
    failure: ServiceError | None = None
    stream: OpenStream | None = None
    limit: asyncio.Timeout | None = None

    @property
    def caller(self) -> Caller:
        """Who makes the request."""
        return self.holder.caller

    @property
    def is_refused(self) -> bool:
        """Whether it was not taken up, for a fault of its own or for want of room."""
        if self.failure is None or self.answer.timeline.started is not None:
            return False
        status = self.failure.row.http_status
        return status < 500 or status == 503


_SCOPE = web.RequestKey("scope", RequestScope)


def scope_of(request: web.BaseRequest) -> RequestScope:
    """The request's scope, made at the first call."""
    scope: RequestScope | None = request.get(_SCOPE)
    if scope is None:
        scope = request[_SCOPE] = RequestScope()
    return scope

"""Unary calls as their server sees them: a span each, and how each ended, told once to its owner.

The hook stands inside the boundary of errors, so that it sees what a handler raised, and around
whatever refuses calls by their key. The handler gets the server's own context. A caller that leaves
cancels the handler: its span ends at once, though a thread may work on for it.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection
from contextvars import ContextVar
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any, TypeAlias

import grpc

from headrace.common.v1 import errors_pb2
from headrace.rpc.call_metadata import call_request_id, call_trace
from headrace.rpc.caller_deadline import is_past_callers_deadline
from headrace.rpc.errors import ERROR_TABLE, Reason, ServiceError, reason_label, reason_of_code
from headrace.telemetry import names
from headrace.telemetry.spans import AttributeValue, NoTracing, Span, SpanKind, Tracing
from headrace.telemetry.trace_context import NO_TRACE


@dataclass(frozen=True, slots=True)
class CallEnd:
    """How a call ended: its status, and the reason's label where that is an error."""

    code: grpc.StatusCode
    error_type: str = ""


@dataclass(slots=True)
class ServedCall:
    """One unary call; its handler adds what it learns, by the names of `telemetry.names`.

    `method` is the full name; `tenant_class` is the caller's, as metrics know it.
    """

    method: str
    span: Span
    request_id: str = ""
    tenant_class: str = "anonymous"
    attributes: dict[str, AttributeValue] = field(default_factory=dict)
    began: float = field(default_factory=perf_counter)

    @property
    def seconds(self) -> float:
        """How long it has taken so far."""
        return perf_counter() - self.began


OnEnd: TypeAlias = Callable[[ServedCall, CallEnd], None]

# Set in the task that gRPC makes for each call, and gone with it.
_current: ContextVar[ServedCall] = ContextVar("served_call")


def served_call() -> ServedCall:
    """The call that the current handler serves; where nobody looks at it, one that is nobody's."""
    call = _current.get(None)
    if call is None:
        return ServedCall("", NoTracing().begin("", SpanKind.SERVER, NO_TRACE))
    return call


def call_end(
    error: BaseException, context: grpc.aio.ServicerContext, allowed_seconds: float | None
) -> CallEnd:
    """How a call ended whose handler raised `error`.

    `allowed_seconds` is what was left of the caller's deadline when the call began; None for none.
    """
    if isinstance(error, ServiceError):
        return CallEnd(error.row.grpc_code, error.label)
    if isinstance(error, asyncio.CancelledError):
        return _cut(context, allowed_seconds)
    if isinstance(error, grpc.aio.AbortError):
        code = context.code()
        return CallEnd(code, reason_label(reason_of_code(code)))
    return _ended(errors_pb2.ERROR_REASON_ENGINE_FAILURE)


class CallHook(grpc.aio.ServerInterceptor):  # type: ignore[misc] # grpc is untyped
    """Looks at the calls of some methods; `on_end` is told of each, after its span."""

    def __init__(self, tracing: Tracing, methods: Collection[str], on_end: OnEnd) -> None:
        """`methods` are full names, such as `names.RENDER_METHOD`; none of them reads a stream."""
        self._tracing = tracing
        self._methods = frozenset(methods)
        self._on_end = on_end

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        """The method's own handler, or one that is looked at."""
        handler = await continuation(handler_call_details)
        method = handler_call_details.method.removeprefix("/")
        if handler is None or method not in self._methods:
            return handler
        if handler.unary_unary:
            behaviour, make = handler.unary_unary, grpc.unary_unary_rpc_method_handler
        else:
            behaviour, make = handler.unary_stream, grpc.unary_stream_rpc_method_handler
        return make(
            self._watched(behaviour, method),
            handler.request_deserializer,
            handler.response_serializer,
        )

    def _watched(
        self, behaviour: Callable[..., Awaitable[Any]], method: str
    ) -> Callable[..., Awaitable[Any]]:
        async def watched(request: Any, context: grpc.aio.ServicerContext) -> Any:
            allowed_seconds = context.time_remaining()
            call = self._begin(method, context)
            _current.set(call)
            try:
                response = await behaviour(request, context)
            except BaseException as error:
                self._end(call, call_end(error, context, allowed_seconds))
                raise
            self._end(call, CallEnd(grpc.StatusCode.OK))
            return response

        return watched

    def _begin(self, method: str, context: grpc.aio.ServicerContext) -> ServedCall:
        metadata = context.invocation_metadata()
        parent, request_id = call_trace(metadata), call_request_id(metadata)
        span = self._tracing.begin(
            method,
            SpanKind.SERVER,
            parent,
            {names.RPC_SYSTEM: "grpc", names.RPC_METHOD: method},
        )
        return ServedCall(method, span, request_id)

    def _end(self, call: ServedCall, end: CallEnd) -> None:
        span = call.span
        if span.is_recording:
            if call.request_id:
                span.set({names.REQUEST_ID: call.request_id})
            span.set({**call.attributes, names.RPC_STATUS: end.code.name})
            if end.error_type:
                span.fail(end.error_type)
        span.end()
        self._on_end(call, end)


def _cut(context: grpc.aio.ServicerContext, allowed_seconds: float | None) -> CallEnd:
    """The end of a call that its caller left: of itself, or since its deadline was over."""
    remaining = context.time_remaining()
    if (
        allowed_seconds is not None
        and remaining is not None
        and is_past_callers_deadline(remaining, allowed_seconds)
    ):
        return _ended(errors_pb2.ERROR_REASON_DEADLINE_EXCEEDED)
    return _ended(errors_pb2.ERROR_REASON_CLIENT_CANCELLED)


def _ended(reason: Reason) -> CallEnd:
    return CallEnd(ERROR_TABLE[reason].grpc_code, reason_label(reason))

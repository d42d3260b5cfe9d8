"""Who calls a gRPC service: the key in a call's metadata, checked before any method but health.

The interceptor refuses calls without a known key; servicers ask again who it is that they serve,
and long streams for each request on them, so that a removed key is unknown at once.
"""

from collections.abc import Awaitable, Callable, Iterable
from typing import Any, NoReturn

import grpc
from grpc_health.v1 import health

from headrace.access.key_ring import KeyHolder, KeyRing, anybody
from headrace.access.refusals import missing_key, unknown_key
from headrace.rpc.bearer import AUTHORIZATION, bearer_key
from headrace.rpc.errors import ServiceError
from headrace.rpc.server import refuse_call

_WHERE = "the call's metadata (i.e. authorization: Bearer YOUR_KEY)"
_HEALTH = f"/{health.SERVICE_NAME}/"


def _nobody(_error: ServiceError) -> None:
    """Nobody wants to know."""


class KeyGate:
    """The callers of one service; without keys everybody is let in.

    `on_refused` is told of each call that the server refuses for its key, whatever it was for.
    """

    def __init__(
        self,
        keys: KeyRing | None = None,
        on_refused: Callable[[ServiceError], None] = _nobody,
    ) -> None:
        self._keys = keys
        self.on_refused = on_refused

    @property
    def interceptors(self) -> list[grpc.aio.ServerInterceptor]:
        """What the server must be made with."""
        return [] if self._keys is None else [_KeyCheck(self)]

    def holder(self, context: grpc.aio.ServicerContext) -> KeyHolder:
        """Who makes a call. Raises ServiceError: invalid_api_key."""
        if self._keys is None:
            return anybody()
        return self.holder_of(key_of(context.invocation_metadata()))

    def holder_of(self, key: str) -> KeyHolder:
        """Who holds a key. Raises ServiceError: invalid_api_key."""
        if self._keys is None:
            return anybody()
        if not key:
            raise missing_key(_WHERE)
        holder = self._keys.find(key)
        if holder is None:
            raise unknown_key()
        return holder


def key_of(metadata: Iterable[tuple[str, str | bytes]] | None) -> str:
    """The bearer key in a call's metadata; empty for none, and for more than one."""
    values = [value for name, value in metadata or () if name == AUTHORIZATION]
    return bearer_key(str(values[0])) if len(values) == 1 else ""


class _KeyCheck(grpc.aio.ServerInterceptor):  # type: ignore[misc] # grpc is untyped
    """Refuses calls without a known key, whatever they are for, health excepted."""

    def __init__(self, gate: KeyGate) -> None:
        self._gate = gate

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        """The method's own handler, or one that refuses."""
        handler = await continuation(handler_call_details)
        if handler is None or handler_call_details.method.startswith(_HEALTH):
            return handler
        try:
            self._gate.holder_of(key_of(handler_call_details.invocation_metadata))
        except ServiceError as error:
            self._gate.on_refused(error)
            return _refusing(handler, error)
        return handler


def _refusing(handler: Any, error: ServiceError) -> Any:
    """A handler of the same form that reads nothing of what was sent."""

    async def refuse(_request: Any, context: grpc.aio.ServicerContext) -> NoReturn:
        await refuse_call(error, context)

    forms = (
        (handler.unary_unary, grpc.unary_unary_rpc_method_handler),
        (handler.unary_stream, grpc.unary_stream_rpc_method_handler),
        (handler.stream_unary, grpc.stream_unary_rpc_method_handler),
        (handler.stream_stream, grpc.stream_stream_rpc_method_handler),
    )
    make = next(make for behaviour, make in forms if behaviour)
    return make(refuse)

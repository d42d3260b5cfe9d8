"""The status with which a peer ended a client's stream, also where gRPC overwrites it.

In grpc.aio (`_StreamRequestMixin._write`, 1.85) a write that fails gives its call a status of its
own, INTERNAL, though the peer's has come a moment before: a stream that a server refuses unread
often ends so. When a call's callbacks run, the peer's status is there.
"""

from collections.abc import Coroutine
from typing import Any

import grpc


class EndStatus:
    """Keeps the first status of a call."""

    def __init__(self, call: grpc.aio.Call) -> None:
        self._error: grpc.aio.AioRpcError | None = None
        call.add_done_callback(self._keep)

    def told(self, error: Exception) -> Exception:
        """What the peer said, where it ended the call with an error; else `error` itself."""
        return self._error or error

    def _keep(self, call: grpc.aio.Call) -> None:
        code, details = _result(call.code()), _result(call.details())
        if code is not grpc.StatusCode.OK:
            trailing = _result(call.trailing_metadata())
            self._error = grpc.aio.AioRpcError(code, grpc.aio.Metadata(), trailing, details)


def _result(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """What a coroutine returns that has nothing to wait for, as a finished call's have not.

    In a task of its own it would come too late.
    """
    try:
        coroutine.send(None)
    except StopIteration as done:
        return done.value
    coroutine.close()
    raise RuntimeError("a finished call has no status")
